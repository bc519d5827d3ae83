"""The split of another run, taken over by composition from its `splits.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crystrata.datasets.splits import PARTS, Split
from crystrata.datasets.tasks.universe import Universe
from crystrata.errors import DataError


@dataclass(frozen=True)
class KeptSplit:
    """What a `splits.json` says.

    Attributes:
        part_of: Key -> part.
        protocol: How it was found.
        seed: Seed of the rule.
        notes: Counts a reader should know.
    """

    part_of: Mapping[str, str]
    protocol: str
    seed: int
    notes: Mapping[str, int]

    def over(self, universe: Universe) -> Split:
        """Return the split of the keys of a universe.

        Raises:
            DataError: A key is in no part.
        """
        if new := [key for key in universe.keys if key not in self.part_of]:
            raise DataError(
                f"{len(new)} compositions are in no part of the split that is taken over ({', '.join(new[:3])}): "
                "give a splits_file that names them, or evaluate everything with test_all"
            )
        place = np.array([PARTS.index(self.part_of[key]) for key in universe.keys], dtype=np.int64)
        train, val, test = (np.flatnonzero(place == number) for number in range(len(PARTS)))
        return Split(train, val, test, self.protocol, self.seed, notes=self.notes)


def read_split(path: Path) -> KeptSplit:
    """Read a `splits.json`.

    Raises:
        DataError: The file is missing or damaged, or puts a key into two parts.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        parts = {part: list(map(str, kept[part])) for part in PARTS}
        split = KeptSplit(
            {key: part for part, keys in parts.items() for key in keys},
            str(kept["protocol"]),
            int(kept["seed"]),
            dict(kept.get("notes", {})),
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: no split can be read from it ({error})") from None
    if len(split.part_of) < sum(map(len, parts.values())):
        raise DataError(f"{path}: a composition stands in two parts, or twice in one")
    return split
