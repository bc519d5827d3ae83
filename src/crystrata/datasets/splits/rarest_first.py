"""Splits as tables state them, the rest by whole formulas, the rarest task first. n materials, T tasks, G groups."""

from __future__ import annotations

import warnings

import numpy as np

from crystrata.datasets.random_order import hash_position, stream_seed
from crystrata.datasets.splits.candidates import SplitRequest
from crystrata.datasets.splits.split import Split
from crystrata.errors import UsageError
from crystrata.tasks import PARTS

TEST_ALL, STATED, RARE_FIRST = "test_all", "split column", "rare first"
"""How a split was found: everything is test; as the tables state; assigned, the rarest task first."""

_TRAIN, _VAL, _TEST = range(3)  # a higher one takes precedence
_NOWHERE = -1


def split_as_stated(request: SplitRequest, protocol: str) -> Split:
    """Split as the tables state, the rest by whole groups of one reduced formula, the rarest task first.

    A material without a stated part joins the part of its formula where that has one. Parts that tables state are
    followed even where they divide a formula; a warning and the notes of the split say how many.

    Raises:
        UsageError: The shares of validation and test are negative or leave nothing to train on.
    """
    val, test, stated = request.val, request.test, request.stated
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise UsageError(f"val_split {val:g} and test_split {test:g} must be at least 0 and below 1 together")
    formulas = np.array(request.crystals.formulas, dtype=object)
    if stated is None:
        stated = np.full(len(formulas), _NOWHERE)
    names, group = np.unique(formulas, return_inverse=True)
    part_of_group = np.full(len(names), _NOWHERE)
    np.maximum.at(part_of_group, group, stated)
    free = part_of_group == _NOWHERE
    found = RARE_FIRST if free.all() else STATED if not free.any() else f"{STATED} + {RARE_FIRST}"
    available = np.zeros((len(names), len(request.known)), dtype=bool)
    for column, task in enumerate(sorted(request.known)):
        np.logical_or.at(available[:, column], group, request.known[task])
    drawn = stream_seed(request.seed, "split")
    order = np.array([hash_position(drawn, name) for name in names[free]])
    part_of_group[free] = rare_first(available[free], order, val=val, test=test)
    part = np.where(stated == _NOWHERE, part_of_group[group], stated)
    divided = _divided_groups(part, group, len(names))
    return _as_split(part, found, request.seed, {"groups in several parts": divided} if divided else {})


def split_all_into_test(request: SplitRequest, protocol: str) -> Split:
    """Put every material into the test part, whatever tables state: to evaluate, not to train."""
    return _as_split(np.full(len(request.crystals), _TEST), TEST_ALL, request.seed, {})


def _divided_groups(part: np.ndarray, group: np.ndarray, groups: int) -> int:
    """Return how many groups stand in several parts, with a warning where any does."""
    lowest, highest = np.full(groups, len(PARTS)), np.full(groups, _NOWHERE)
    np.minimum.at(lowest, group, part)
    np.maximum.at(highest, group, part)
    divided = int((lowest < highest).sum())
    if divided:
        warnings.warn(
            f"the tables put {divided} groups of one reduced formula into several parts; test metrics are too good",
            stacklevel=3,
        )
    return divided


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


def _as_split(part: np.ndarray, protocol: str, seed: int, notes: dict[str, int]) -> Split:
    train, val, test = (np.flatnonzero(part == place) for place in (_TRAIN, _VAL, _TEST))
    return Split(train, val, test, protocol, seed, notes=notes)
