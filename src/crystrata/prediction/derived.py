"""Properties without a head of their own, from those that have one. n crystals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crystrata.errors import ModelError
from crystrata.properties import get_property


def with_derived(
    names: Sequence[str], trained: Sequence[str], values: np.ndarray, hull: np.ndarray | None
) -> np.ndarray:
    """Return the values of all named properties, (n, len(names)), from those of the trained ones.

    The energy above hull is the formation energy minus the hull: of a label with its DFT energy, of a prediction with
    its predicted one. It is negative where a crystal lies below the hull of the training crystals.

    Args:
        names: Properties wanted.
        trained: Properties of the columns of `values`.
        values: Labels or predictions, (n, P).
        hull: Hull energy of each crystal, (n,) [eV/atom]; needed where the energy above hull is wanted.
    """
    columns = []
    for name in names:
        base = get_property(name).derived_from
        column = values[:, trained.index(base or name)]
        if base and hull is None:
            raise ModelError(f"{name} needs the convex hull of the training energies, and this model has none; retrain")
        columns.append(column - hull if base else column)
    return np.stack(columns, axis=1)
