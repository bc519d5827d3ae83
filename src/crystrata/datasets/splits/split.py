"""What a split is: the rows of each part and how they were found; and a sample of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from crystrata.datasets.random_order import hash_position
from crystrata.errors import UsageError
from crystrata.files import digest_of_json
from crystrata.tasks import PARTS

FRACTIONS = (0.8, 0.1, 0.1)
SAMPLE = " (sample)"
"""Added to the protocol where an official test part is no longer whole: its figures compare with no table."""

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
        official_tests: Leaderboard benchmark -> rows of its official test, all of them within `test`. Only figures over
            these rows compare with the leaderboard.
        notes: Counts a reader should know, such as near-duplicates of test crystals in training; of the whole split,
            also where this is a sample of it.
        seen_before: Ids of the crystals outside `train` that the weights were trained on before this run.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    protocol: str
    seed: int
    official_tests: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    seen_before: tuple[str, ...] = ()

    def part(self, name: str) -> np.ndarray:
        """Return the rows of a part by name."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]

    def as_dict(self, ids: Sequence[str]) -> dict[str, Any]:
        """Return protocol, seed, notes and the ids of each part: what `splits.json` holds."""
        parts = {name: [ids[row] for row in self.part(name)] for name in PARTS}
        content: dict[str, Any] = {"protocol": self.protocol, "seed": self.seed, "digest": digest_of_json(parts)}
        if self.notes:
            content["notes"] = dict(self.notes)
        if self.official_tests:
            content["official_tests"] = {name: [ids[row] for row in rows] for name, rows in self.official_tests.items()}
        if self.seen_before:
            content["seen_before"] = list(self.seen_before)
        return {**content, **parts}


def keep_rows(split: Split, keep: np.ndarray) -> Split:
    """Leave out rows, such as those without a label of any property that is trained.

    Args:
        split: The whole split.
        keep: True for the rows that stay, (n,).
    """
    parts = {name: split.part(name)[keep[split.part(name)]] for name in PARTS}
    return replace(split, **parts, official_tests=_whole(split, parts["test"]))


def subsample(split: Split, max_samples: int, ids: Sequence[str]) -> Split:
    """Keep at most `max_samples` rows in all, 80/10/10 but at least 20 for each evaluation, inside their parts.

    Rows are chosen by a hash of their id, so that a smaller sample is part of a larger one. An official test part that
    loses a row is official no longer: the protocol then ends in `(sample)`.
    """
    # The two parts never grow at the same step, so that no part of a larger sample is smaller.
    val = min(max(_LEAST_EVALUATION, max_samples // 10), max_samples // 3)
    test = min(max(_LEAST_EVALUATION, (max_samples + 5) // 10), (max_samples + 1) // 3)
    sizes = {"train": max_samples - val - test, "val": val, "test": test}
    kept = {}
    for name in PARTS:
        rows = split.part(name)
        order = np.argsort([hash_position(split.seed, ids[row]) for row in rows], kind="stable")
        kept[name] = np.sort(rows[order[: sizes[name]]])
    cut = bool(split.official_tests) and len(kept["test"]) < len(split.test)
    return Split(
        **kept,
        protocol=split.protocol + (SAMPLE if cut else ""),
        seed=split.seed,
        official_tests=_whole(split, kept["test"]),
        notes=split.notes,
        seen_before=split.seen_before,
    )


def keep_unseen(split: Split, ids: Sequence[str], seen: np.ndarray) -> Split:
    """Leave out the validation materials that the weights to start from were trained on: they select for memory.

    Args:
        split: The whole split.
        ids: Id of each row.
        seen: Whether the weights were trained on each row, (n,).

    Raises:
        UsageError: One of them is tested on, or none is left to validate on.
    """
    tested, validated = seen[split.test], seen[split.val]
    advice = "start from a run of the same split, or from scratch"
    if tested.any():
        first = ids[split.test[tested][0]]
        raise UsageError(
            f"the weights to start from were trained on {tested.sum()} materials of the test part of this split "
            f"({split.protocol}), such as {first}: {advice}"
        )
    if len(split.val) and validated.all():
        raise UsageError(f"the weights to start from were trained on every validation material: {advice}")
    outside = np.setdiff1d(np.flatnonzero(seen), split.train)
    before = tuple(sorted(ids[row] for row in outside))
    notes = {**split.notes, "validation_crystals_seen_before": int(validated.sum())} if validated.any() else split.notes
    return replace(split, val=split.val[~validated], notes=notes, seen_before=before)


def _whole(split: Split, test: np.ndarray) -> dict[str, np.ndarray]:
    """Return the official tests of which a smaller test part has every row: a part of one compares with nothing."""
    return {name: rows for name, rows in split.official_tests.items() if np.isin(rows, test).all()}
