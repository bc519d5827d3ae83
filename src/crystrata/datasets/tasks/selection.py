"""Which compositions are predicted: what each task asks for, united in the order of the universe."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import numpy as np

from crystrata.datasets.splits import Split
from crystrata.datasets.tasks.specs import TaskSpec
from crystrata.datasets.tasks.universe import Universe


def listed_keys(specs: Iterable[TaskSpec], key_of: Callable[[str], str] = str) -> list[str]:
    """Return the canonical keys that tasks list by name; a universe that is to hold them needs to know."""
    listed = (key_of(name) for spec in specs if isinstance(spec.predict_idx, tuple) for name in spec.predict_idx)
    return list(dict.fromkeys(listed))


def rows_to_predict(
    specs: Iterable[TaskSpec], universe: Universe, split: Split, key_of: Callable[[str], str] = str
) -> np.ndarray:
    """Return the rows of the universe that any task asks for, ascending.

    A part means the keys in the task's own tables; of a task without a table, such as an autoencoder, all of the part.
    A task that says nothing means the test part, or all where that is empty. Listed keys that are not in the universe
    (they have no descriptor) are skipped with one warning.
    """
    specs = list(specs)
    chosen = np.zeros(len(universe), dtype=bool)
    for spec in specs:
        part = spec.predict_idx or ("test" if len(split.test) else "all")
        if isinstance(part, str):
            inside = np.zeros(len(universe), dtype=bool)
            inside[np.arange(len(universe)) if part == "all" else split.part(part)] = True
            own = universe.position.get(spec.name)
            chosen |= inside if own is None else inside & (own >= 0)
    row_of = {key: row for row, key in enumerate(universe.keys)}
    listed = listed_keys(specs, key_of)
    chosen[[row_of[key] for key in listed if key in row_of]] = True
    if absent := [key for key in listed if key not in row_of]:
        warnings.warn(
            f"{len(absent)} compositions to predict have no descriptor and are skipped ({', '.join(absent[:3])})",
            stacklevel=2,
        )
    return np.flatnonzero(chosen)
