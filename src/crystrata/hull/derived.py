"""Properties without a head of their own, from those that have one. n crystals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from crystrata.errors import ModelError
from crystrata.hull import Levels
from crystrata.properties import get_property


def with_derived(
    names: Sequence[str],
    trained: Sequence[str],
    values: np.ndarray,
    levels: Mapping[str, Levels],
    known: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Return the values of all named properties, (n, len(names)), from those of the trained ones.

    An energy above hull is the formation energy minus the hull: of a label with its DFT energy, of a prediction with
    its predicted one. It is negative where a crystal lies below the hull of the training crystals.

    Args:
        names: Properties wanted.
        trained: Properties of the columns of `values`.
        values: Labels or predictions, (n, P).
        levels: Property -> where the crystals lie over its hull; needed for each that is derived.
        known: Property -> its own labels (n,), which a derived one may have too.
    """
    columns = []
    for name in names:
        record = get_property(name)
        column = values[:, trained.index(record.derived_from or name)]
        if known and name in known:
            column = known[name]
        elif record.derived_from:
            if name not in levels:
                raise ModelError(
                    f"{name} needs the convex hull of the training energies, and this model has none; retrain"
                )
            column = np.maximum(levels[name].above(column), -np.inf if record.lower is None else record.lower)
        columns.append(column)
    return np.stack(columns, axis=1)
