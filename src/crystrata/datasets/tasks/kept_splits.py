"""The split of another run, taken over by composition from its `splits.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from crystrata.datasets.splits import PARTS, Split
from crystrata.datasets.tasks.universe import Universe
from crystrata.errors import DataError

KEPT = "kept"
"""Protocol of a split that was taken over."""


def read_split(path: Path) -> dict[str, str]:
    """Return the part of each key of a `splits.json`.

    Raises:
        DataError: The file is missing or damaged, or puts a key into two parts.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        parts = {part: list(map(str, kept[part])) for part in PARTS}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: no split can be read from it ({error})") from None
    part_of = {key: part for part, keys in parts.items() for key in keys}
    if len(part_of) < sum(map(len, parts.values())):
        raise DataError(f"{path}: a composition stands in two parts, or twice in one")
    return part_of


def split_as_kept(universe: Universe, part_of: Mapping[str, str], seed: int) -> Split:
    """Split the keys of a universe as another run did.

    Args:
        universe: The keys.
        part_of: Key -> part.
        seed: Seed of the other split.

    Raises:
        DataError: A key was not there.
    """
    if new := [key for key in universe.keys if key not in part_of]:
        raise DataError(
            f"{len(new)} compositions are in no part of the split that is taken over ({', '.join(new[:3])})"
        )
    place = np.array([PARTS.index(part_of[key]) for key in universe.keys], dtype=np.int64)
    train, val, test = (np.flatnonzero(place == number) for number in range(len(PARTS)))
    return Split(train, val, test, KEPT, seed)
