"""Training, validation and test parts that keep whole groups together, the same for every run of a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crystrata.files import digest_of_json

PARTS = ("train", "val", "test")
FRACTIONS = (0.8, 0.1, 0.1)
_LEAST_EVALUATION = 20


@dataclass(frozen=True)
class Split:
    """Rows of each part, ascending, and how they were found.

    Attributes:
        train: Rows trained on.
        val: Rows that select the model.
        test: Rows looked at once.
        protocol: Name of the rule.
        seed: Seed of the rule.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    protocol: str
    seed: int

    def part(self, name: str) -> np.ndarray:
        """Return the rows of a part by name."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]

    def as_dict(self, ids: Sequence[str]) -> dict:
        """Return protocol, seed and the ids of each part: what `splits.json` holds."""
        parts = {name: [ids[row] for row in self.part(name)] for name in PARTS}
        return {"protocol": self.protocol, "seed": self.seed, "digest": digest_of_json(parts), **parts}


def random_split(groups: Sequence[str], *, seed: int) -> Split:
    """Split rows 80/10/10 at random, whole groups at a time.

    Groups are ordered by a hash of seed and name and cut where the row counts are reached, so the answer depends on no
    random generator and polymorphs (one reduced formula) never stand on two sides.

    Args:
        groups: Group of each row, such as its reduced formula.
        seed: Another seed gives another split.
    """
    names, group_of_row = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    order = np.argsort([_position(seed, name) for name in names])
    sizes = np.bincount(group_of_row, minlength=len(names))[order]
    before = np.cumsum(sizes) - sizes  # rows in the groups ahead
    bounds = np.cumsum(FRACTIONS[:-1]) * len(groups)
    part_of_group = np.empty(len(names), dtype=np.int64)
    part_of_group[order] = np.searchsorted(bounds, before, side="right")
    part_of_row = part_of_group[group_of_row]
    train, val, test = (np.flatnonzero(part_of_row == part) for part in range(3))
    return Split(train, val, test, "random", seed)


def subsample(split: Split, max_samples: int, ids: Sequence[str]) -> Split:
    """Keep at most `max_samples` rows in all, 80/10/10 but at least 20 for each evaluation, inside their parts.

    Rows are chosen by a hash of their id, so that a smaller sample is part of a larger one.
    """
    # The two parts never grow at the same step, so that no part of a larger sample is smaller.
    val = min(max(_LEAST_EVALUATION, max_samples // 10), max_samples // 3)
    test = min(max(_LEAST_EVALUATION, (max_samples + 5) // 10), (max_samples + 1) // 3)
    sizes = {"train": max_samples - val - test, "val": val, "test": test}
    kept = {}
    for name in PARTS:
        rows = split.part(name)
        order = np.argsort([_position(split.seed, ids[row]) for row in rows], kind="stable")
        kept[name] = np.sort(rows[order[: sizes[name]]])
    return Split(**kept, protocol=split.protocol, seed=split.seed)


def _position(seed: int, name: str) -> int:
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")
