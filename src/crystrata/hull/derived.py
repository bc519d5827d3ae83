"""Tasks without a head of their own, from those that have one. n materials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from crystrata.errors import ModelError
from crystrata.hull import Levels
from crystrata.tasks import Task


def with_derived(
    tasks: Sequence[Task],
    values: Mapping[str, np.ndarray],
    levels: Mapping[str, Levels],
    known: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Return the values of tasks of one number, task -> (n,), from those of the tasks that have a head.

    An energy above hull is the formation energy minus the hull: of a label with its DFT energy, of a prediction with
    its predicted one. It is negative where a crystal lies below the hull of the training crystals.

    Args:
        tasks: What is wanted; a ModelError if a derived one has no hull.
        values: Labels or predictions of tasks that have a head, task -> (n,).
        levels: Task -> where the crystals lie over its hull; needed for each that is derived.
        known: Task -> its own labels (n,), which a derived one may have too.
    """
    found = {}
    for task in tasks:
        if not task.is_number:
            continue
        if known and task.name in known:
            found[task.name] = known[task.name]
        elif task.derived_from is None:
            found[task.name] = values[task.name]
        elif task.name not in levels:
            raise ModelError(
                f"{task.name} needs the convex hull of the training energies, and this model has none; train again"
            )
        else:
            lowest = -np.inf if task.lower is None else task.lower
            found[task.name] = np.maximum(levels[task.name].above(values[task.derived_from]), lowest)
    return found
