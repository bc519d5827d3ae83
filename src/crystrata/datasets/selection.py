"""Which materials are predicted: what each task asks for, united in the order of the materials."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import numpy as np

from crystrata.datasets.materials import Materials
from crystrata.datasets.splits import Split
from crystrata.tasks import Task


def listed_keys(tasks: Iterable[Task], key_of: Callable[[str], str] = str) -> dict[str, str]:
    """Return the canonical keys that tasks list by name, and how they are written: a run's materials hold them."""
    names = (name for task in tasks if isinstance(task.predict_idx, tuple) for name in task.predict_idx)
    listed: dict[str, str] = {}
    for name in names:
        listed.setdefault(key_of(name), str(name))
    return listed


def rows_to_predict(
    tasks: Iterable[Task], materials: Materials, split: Split, key_of: Callable[[str], str] = str
) -> np.ndarray:
    """Return the rows of the materials that any task asks for, ascending.

    A part means the keys in the task's own tables; of a task without a table, such as an autoencoder, all of the part.
    A task that says nothing means the test part, or all where that is empty. Listed keys that are not among the
    materials (they have no descriptor) are skipped with one warning.
    """
    tasks = list(tasks)
    chosen = np.zeros(len(materials), dtype=bool)
    for task in tasks:
        part = task.predict_idx or ("test" if len(split.test) else "all")
        if isinstance(part, str):
            inside = np.zeros(len(materials), dtype=bool)
            inside[np.arange(len(materials)) if part == "all" else split.part(part)] = True
            own = materials.listed.get(task.name)
            chosen |= inside if own is None else inside & own
    row_of = {key: row for row, key in enumerate(materials.ids)}
    listed = listed_keys(tasks, key_of)
    chosen[[row_of[key] for key in listed if key in row_of]] = True
    if absent := [key for key in listed if key not in row_of]:
        warnings.warn(
            f"{len(absent)} compositions to predict have no descriptor and are skipped ({', '.join(absent[:3])})",
            stacklevel=2,
        )
    return np.flatnonzero(chosen)
