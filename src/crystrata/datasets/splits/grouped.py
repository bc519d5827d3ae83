"""Whole groups on one side, by hash order: by formula (`random`), chemical system, prototype. n rows."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from crystrata.datasets.random_order import hash_position
from crystrata.datasets.splits.candidates import SplitRequest
from crystrata.datasets.splits.split import FRACTIONS, Split

_SYMBOL = re.compile(r"[A-Z][a-z]?")

FOR_USE = 0.025
"""Share of the crystals that validate, and as many that test, a model to be used."""

_LARGE = 0.1  # of the smallest part: no part then misses its quota by more than this share of it
_FEW = 5  # rows: in small data a group of so few is not large, lest polymorphs be trained on alone


def cut_groups(groups: Sequence[str], fractions: Sequence[float], *, seed: int) -> list[np.ndarray]:
    """Cut rows into parts of about the given fractions, whole groups at a time.

    A group larger than a tenth of the smallest part would spoil that part's quota: the largest first, such groups go to
    training, as long as it has room. The others are ordered by a hash of seed and name and cut where the row counts
    are reached. The answer depends on no random generator and not on the order of the rows.

    Args:
        groups: Group of each row, (n,).
        fractions: Share of each part; the first is training.
        seed: Another seed gives another answer.

    Returns:
        The rows of each part, ascending.
    """
    names, group_of_row = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    order = np.argsort([hash_position(seed, name) for name in names])
    sizes, quotas = np.bincount(group_of_row, minlength=len(names)), np.asarray(fractions) * len(groups)
    by_size = order[np.argsort(-sizes[order], kind="stable")]  # equal ones stay in hash order
    is_large = sizes[by_size] > max(_LARGE * quotas.min(), _FEW)
    large = by_size[is_large & (_before(sizes[by_size]) < quotas[0])]
    rest = order[~np.isin(order, large)]
    quotas[0] -= sizes[large].sum()
    if quotas[0] < 0:  # the last one filled training beyond its share: the other parts shrink alike
        quotas[0] = 0
        quotas *= sizes[rest].sum() / quotas.sum()
    part_of_group = np.zeros(len(names), dtype=np.int64)
    part_of_group[rest] = np.searchsorted(np.cumsum(quotas[:-1]), _before(sizes[rest]), side="right")
    part_of_row = part_of_group[group_of_row]
    return [np.flatnonzero(part_of_row == part) for part in range(len(fractions))]


def _before(sizes: np.ndarray) -> np.ndarray:
    """Return the rows in the groups ahead of each group."""
    ahead: np.ndarray = np.cumsum(sizes) - sizes
    return ahead


def random_split(
    groups: Sequence[str], *, seed: int, protocol: str = "random", fractions: Sequence[float] = FRACTIONS
) -> Split:
    """Split rows 80/10/10 at random, whole groups at a time.

    Args:
        groups: Group of each row, such as its reduced formula: polymorphs then never stand on two sides.
        seed: Another seed gives another split.
        protocol: Name of the rule that made the groups.
        fractions: Share of training, validation and test.
    """
    train, val, test = cut_groups(groups, fractions, seed=seed)
    return Split(train, val, test, protocol, seed)


def chemical_system(formula: str) -> str:
    """Return the elements of a formula in alphabetical order: `BaO3Ti` -> `Ba-O-Ti`."""
    return "-".join(sorted(set(_SYMBOL.findall(formula))))


def split_by_formula(request: SplitRequest, protocol: str) -> Split:
    """Split with each reduced formula on one side, so that polymorphs and near-duplicates stay together."""
    return random_split(request.crystals.formulas, seed=request.seed, protocol=protocol)


def split_for_use(request: SplitRequest, protocol: str) -> Split:
    """Split as `split_by_formula`, with little held out: a model to be used, by a recipe that is tested elsewhere."""
    fractions = (1 - 2 * FOR_USE, FOR_USE, FOR_USE)
    return random_split(request.crystals.formulas, seed=request.seed, protocol=protocol, fractions=fractions)


def split_by_chemical_system(request: SplitRequest, protocol: str) -> Split:
    """Split with each set of elements on one side."""
    systems = {formula: chemical_system(formula) for formula in set(request.crystals.formulas)}
    groups = [systems[formula] for formula in request.crystals.formulas]
    return random_split(groups, seed=request.seed, protocol=protocol)
