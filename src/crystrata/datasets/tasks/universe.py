"""All compositions that any task knows of, and their split. N keys, T tasks, G groups."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from crystrata.datasets.splits import PARTS, Split
from crystrata.datasets.splits.split import hash_position
from crystrata.datasets.tasks.streams import stream_seed
from crystrata.datasets.tasks.tables import TaskLabels
from crystrata.errors import DataError, UsageError

TEST_ALL, STATED, RARE_FIRST = "test_all", "split column", "rare first"
"""Protocols of a split: everything is test; as the tables state; assigned, the rarest task first."""

_TRAIN, _VAL, _TEST = range(3)  # a higher one goes before
_NOWHERE = -1


@dataclass(frozen=True)
class Universe:
    """The keys of all tasks, and where each task has them.

    Attributes:
        keys: All keys, ascending, N of them.
        position: Task -> its sample of each key, (N,); -1 where it has none.
        known: Task -> whether the sample has a known value, (N,).
        stated: Part that the tables put each key into, (N,): its place in `PARTS`, -1 where none says so.
    """

    keys: tuple[str, ...]
    position: Mapping[str, np.ndarray]
    known: Mapping[str, np.ndarray]
    stated: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def keep(self, valid: np.ndarray) -> Universe:
        """Return the universe of some keys, such as those with a descriptor; `valid` (N,) is True for them."""
        return Universe(
            keys=tuple(key for key, stays in zip(self.keys, valid, strict=True) if stays),
            position={task: rows[valid] for task, rows in self.position.items()},
            known={task: there[valid] for task, there in self.known.items()},
            stated=self.stated[valid],
        )


def build_universe(labels: Mapping[str, TaskLabels], predict: Iterable[str] = ()) -> Universe:
    """Unite the keys of all tasks and of lists to predict; the order of tasks and rows does not matter.

    Where tables state different parts for a key, test goes before val before train, with a warning.

    Args:
        labels: Task -> labels.
        predict: Further canonical keys.

    Raises:
        DataError: There is no key at all.
    """
    keys = sorted({*predict, *(key for task in labels.values() for key in task.keys)})
    if not keys:
        raise DataError("no task has a composition, and none is listed to predict")
    row_of = {key: row for row, key in enumerate(keys)}
    position, known = {}, {}
    lowest, highest = np.full(len(keys), len(PARTS)), np.full(len(keys), _NOWHERE)
    for name, task in labels.items():
        rows = np.array([row_of[key] for key in task.keys], dtype=np.int64)
        position[name] = np.full(len(keys), _NOWHERE)
        position[name][rows] = np.arange(len(rows))
        known[name] = np.zeros(len(keys), dtype=bool)
        known[name][rows] = task.known_samples
        part = np.array([PARTS.index(part) if part else _NOWHERE for part in task.split], dtype=np.int64)
        rows, part = rows[part != _NOWHERE], part[part != _NOWHERE]
        lowest[rows], highest[rows] = np.minimum(lowest[rows], part), np.maximum(highest[rows], part)
    if (odd := np.flatnonzero((highest != _NOWHERE) & (lowest < highest))).size:
        examples = ", ".join(keys[row] for row in odd[:3])
        warnings.warn(
            f"{len(odd)} compositions stand in different parts in different tables ({examples}): test goes before val "
            "before train",
            stacklevel=2,
        )
    return Universe(tuple(keys), position, known, highest)


def split_universe(
    universe: Universe,
    *,
    seed: int = 42,
    val: float = 0.1,
    test: float = 0.1,
    test_all: bool = False,
    group_of: Callable[[str], str] = str,
) -> Split:
    """Split the keys: as the tables state, the rest by whole groups, the rarest task first.

    A key without a stated part joins the part of its group where that has one. Parts that tables state are followed
    even where they tear a group apart; a warning and the notes of the split tell how many.

    Args:
        universe: The keys.
        seed: Base seed of the run.
        val: Share of the validation part.
        test: Share of the test part.
        test_all: Whether everything is test, whatever the tables state.
        group_of: From a key to its group, such as the reduced formula.

    Returns:
        Rows of the universe.

    Raises:
        UsageError: The shares are negative or leave nothing to train on.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise UsageError(f"val_split {val:g} and test_split {test:g} must be at least 0 and below 1 together")
    if test_all:
        return _as_split(np.full(len(universe), _TEST), TEST_ALL, seed, {})
    names, group = np.unique(np.array([group_of(key) for key in universe.keys], dtype=object), return_inverse=True)
    part_of_group = np.full(len(names), _NOWHERE)
    np.maximum.at(part_of_group, group, universe.stated)
    free = part_of_group == _NOWHERE
    protocol = RARE_FIRST if free.all() else STATED if not free.any() else f"{STATED} + {RARE_FIRST}"
    available = np.zeros((len(names), len(universe.known)), dtype=bool)
    for column, task in enumerate(sorted(universe.known)):
        np.logical_or.at(available[:, column], group, universe.known[task])
    drawn = stream_seed(seed, "split")
    order = np.array([hash_position(drawn, name) for name in names[free]])
    part_of_group[free] = rare_first(available[free], order, val=val, test=test)
    part = np.where(universe.stated == _NOWHERE, part_of_group[group], universe.stated)
    torn = _torn_groups(part, group, len(names))
    return _as_split(part, protocol, seed, {"groups in several parts": torn} if torn else {})


def _torn_groups(part: np.ndarray, group: np.ndarray, groups: int) -> int:
    """Return how many groups stand in several parts, with a warning where any does."""
    lowest, highest = np.full(groups, len(PARTS)), np.full(groups, _NOWHERE)
    np.minimum.at(lowest, group, part)
    np.maximum.at(highest, group, part)
    torn = int((lowest < highest).sum())
    if torn:
        warnings.warn(
            f"the tables put {torn} groups of one reduced formula into several parts; their test figures are too good",
            stacklevel=3,
        )
    return torn


def rare_first(available: np.ndarray, order: np.ndarray, *, val: float, test: float) -> np.ndarray:
    """Assign groups to parts, those of the rarest task first.

    Tasks take their turn by increasing count, ties by column. Each brings the groups that have no part yet, the last
    turn is that of groups without a task. The shares are met by cumulative rounding, so that they hold over many small
    turns as well.

    Args:
        available: Whether a group has a label of each task, (G, T).
        order: Random place of each group, (G,).
        val: Share of the validation part.
        test: Share of the test part.

    Returns:
        Place of each group's part in `PARTS`, (G,).
    """
    part = np.full(len(available), _NOWHERE)
    turns = [available[:, task] for task in np.argsort(available.sum(axis=0), kind="stable")]
    wanted_test = wanted_val = 0.0
    in_test = in_val = 0
    for turn in [*turns, np.ones(len(available), dtype=bool)]:
        chunk = np.flatnonzero(turn & (part == _NOWHERE))
        chunk = chunk[np.argsort(order[chunk], kind="stable")]
        wanted_test += test * len(chunk)
        wanted_val += val * len(chunk)
        n_test = min(max(round(wanted_test) - in_test, 0), len(chunk))
        n_val = min(max(round(wanted_val) - in_val, 0), len(chunk) - n_test)
        in_test, in_val = in_test + n_test, in_val + n_val
        part[chunk[:n_test]], part[chunk[n_test : n_test + n_val]] = _TEST, _VAL
        part[chunk[n_test + n_val :]] = _TRAIN
    return part


def counts_per_part(universe: Universe, split: Split) -> dict[str, dict[str, int]]:
    """Return task -> part -> samples with a known value; warn of each task that a part has none of.

    Parts that are empty as a whole were meant to be, and are not warned of.
    """
    counts = {
        task: {part: int(there[split.part(part)].sum()) for part in PARTS} for task, there in universe.known.items()
    }
    for task, per_part in counts.items():
        if empty := [part for part in PARTS if len(split.part(part)) and not per_part[part]]:
            warnings.warn(f"task {task!r} has no known label in {', '.join(empty)}", stacklevel=2)
    return counts


def _as_split(part: np.ndarray, protocol: str, seed: int, notes: dict[str, int]) -> Split:
    train, val, test = (np.flatnonzero(part == place) for place in (_TRAIN, _VAL, _TEST))
    return Split(train, val, test, protocol, seed, notes=notes)
