"""The split of another run, taken over by id from its `splits.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crystrata.datasets.splits.candidates import SplitRequest
from crystrata.datasets.splits.split import Split
from crystrata.errors import DataError, UsageError
from crystrata.files import read_json
from crystrata.tasks import PARTS


@dataclass(frozen=True)
class SavedSplit:
    """What a `splits.json` says.

    Attributes:
        part_of: Id -> part.
        protocol: How it was found.
        seed: Seed of the rule.
        notes: Counts a reader should know.
    """

    part_of: Mapping[str, str]
    protocol: str
    seed: int
    notes: Mapping[str, int]


def split_as_saved(request: SplitRequest, protocol: str) -> Split:
    """Split every material as another run did.

    Raises:
        UsageError: No file is named.
        DataError: The file cannot be read, or a material is in no part.
    """
    if request.splits_file is None:
        raise UsageError(f"--split {protocol} takes over another split: name its splits.json by --splits-file")
    saved, ids = read_split(request.splits_file), request.crystals.ids
    if new := [key for key in ids if key not in saved.part_of]:
        raise DataError(
            f"{len(new)} compositions are in no part of the split that is taken over ({', '.join(new[:3])}): "
            "give a splits_file that names them, or evaluate everything with test_all"
        )
    place = np.array([PARTS.index(saved.part_of[key]) for key in ids], dtype=np.int64)
    train, val, test = (np.flatnonzero(place == number) for number in range(len(PARTS)))
    return Split(train, val, test, saved.protocol, saved.seed, notes=saved.notes)


def read_split(path: Path) -> SavedSplit:
    """Read a `splits.json`.

    Raises:
        DataError: The file is missing or damaged, or puts an id into two parts.
    """
    content = read_json(path, DataError, "no split can be read from it")
    try:
        parts = {part: list(map(str, content[part])) for part in PARTS}
        split = SavedSplit(
            {key: part for part, keys in parts.items() for key in keys},
            str(content["protocol"]),
            int(content["seed"]),
            dict(content.get("notes", {})),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: no split can be read from it ({error})") from None
    if len(split.part_of) < sum(map(len, parts.values())):
        raise DataError(f"{path}: a composition stands in two parts, or twice in one")
    return split
