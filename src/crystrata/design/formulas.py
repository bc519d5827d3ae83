"""Formulas of compositions: rounding to small integers, and charge balance.

n elements in all, k elements of a formula, m formulas.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from crystrata.compositions.keys import formula_amounts, group_key
from crystrata.elements import SYMBOLS
from crystrata.errors import UsageError

LEAST_FRACTION = 1e-3
"""Elements with a smaller atomic fraction are left out of texts and counts."""

MOST_ATOMS = 20
_MOST_ELEMENTS = 5  # of a composition whose neutral formulas are listed
_GOOD_ENOUGH = 0.01  # error of an atomic fraction below which no larger formula is tried
_MOST_FORMULAS = 300_000  # that are tried for one set of elements


@dataclass(frozen=True)
class Composition:
    """A composition with a formula for it.

    Attributes:
        weights: Atomic fractions, (n,).
        formula: Reduced formula of small integers, its elements in alphabetical order.
        rounding_error: Largest difference between an atomic fraction and that of the formula.
        charges: Oxidation states of the formula, see `charges_of`.
    """

    weights: np.ndarray
    formula: str
    rounding_error: float
    charges: dict[str, float] | None

    @classmethod
    def of(cls, weights: np.ndarray, max_atoms: int = MOST_ATOMS) -> Composition:
        """Return atomic fractions (n,) with the nearest neutral formula, or the nearest of all if none is neutral."""
        formula, error = neutral_formula(weights, max_atoms) or integer_formula(weights, max_atoms)
        return cls(weights, formula, error, charges_of(formula))

    @classmethod
    def written_as(cls, weights: np.ndarray, fractions: np.ndarray) -> Composition:
        """Return atomic fractions (n,) with the formula whose fractions (n,) are given."""
        formula = formula_of(fractions)
        return cls(weights, formula, float(np.abs(fractions - weights).max()), charges_of(formula))


def composition_text(weights: np.ndarray) -> str:
    """Return atomic fractions (n,) as text, the largest first: `O0.571 P0.143 Li0.143 Fe0.143`."""
    order = np.argsort(-weights, kind="stable")
    return " ".join(f"{SYMBOLS[place]}{weights[place]:.3f}" for place in order if weights[place] >= LEAST_FRACTION)


def integer_formula(weights: np.ndarray, max_atoms: int = MOST_ATOMS) -> tuple[str, float]:
    """Return the formula nearest to atomic fractions (n,), and its largest error of a fraction.

    It is the smallest formula with an error below 0.01, or else the one with the smallest error.

    Args:
        weights: Non-negative, not all zero.
        max_atoms: Largest number of atoms.

    Raises:
        UsageError: All amounts are zero, or `max_atoms` is below 1.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if max_atoms < 1 or not weights.sum() > 0:
        raise UsageError("a formula needs an amount above 0 and at least one atom")
    weights = weights / weights.sum()
    best, lowest = np.zeros(len(weights), dtype=np.int64), np.inf
    for atoms in range(1, max_atoms + 1):
        counts = _rounded(weights * atoms)
        error = float(np.abs(counts / atoms - weights).max())
        if error < lowest - 1e-9:
            best, lowest = counts, error
        if lowest < _GOOD_ENOUGH:
            break
    return group_key("".join(f"{SYMBOLS[place]}{best[place]}" for place in np.flatnonzero(best))), lowest


def neutral_formula(weights: np.ndarray, max_atoms: int = MOST_ATOMS) -> tuple[str, float] | None:
    """Return the nearest neutral formula of the elements in fractions (n,), and its largest error of a fraction.

    None where `neutral_neighbours` finds no formula.
    """
    formulas = neutral_neighbours(weights, max_atoms)
    if not len(formulas):
        return None
    errors = np.abs(formulas - weights / weights.sum()).max(axis=1)
    return formula_of(formulas[errors.argmin()]), float(errors.min())


def neutral_neighbours(weights: np.ndarray, max_atoms: int = MOST_ATOMS) -> np.ndarray:
    """Return the atomic fractions (m, n) of all neutral formulas of the elements in a composition (n,), smallest first.

    There are none where all elements are metals, no charges balance, or there are more than five elements. Amounts
    below half an atom in `max_atoms` are ignored.
    """
    places = np.flatnonzero(weights >= 0.5 / max_atoms * weights.sum())
    symbols = [SYMBOLS[place] for place in places]
    if len(symbols) < 2 or len(symbols) > _MOST_ELEMENTS or all_metals(symbols):
        return np.zeros((0, len(weights)))
    counts = neutral_formulas(symbols, max_atoms)
    fractions = np.zeros((len(counts), len(weights)))
    fractions[:, places] = counts / counts.sum(axis=1, keepdims=True)
    return fractions


def formula_of(fractions: np.ndarray) -> str:
    """Return the reduced formula of fractions (n,) that are ratios of small integers."""
    return group_key("".join(f"{SYMBOLS[place]}{fractions[place]:.12g}" for place in np.flatnonzero(fractions)))


def _rounded(amounts: np.ndarray) -> np.ndarray:
    """Round amounts (n,) to integers of the same sum: the largest remainders are rounded up."""
    counts = np.floor(amounts + 1e-9).astype(np.int64)
    missing = round(amounts.sum()) - int(counts.sum())
    counts[np.argsort(counts - amounts, kind="stable")[:missing]] += 1
    return counts


@dataclass(frozen=True)
class _Ion:
    """An element in a compound: its common oxidation states and its electronegativity."""

    states: tuple[int, ...]
    electronegativity: float
    is_metal: bool
    mixes: bool  # its atoms may differ in state: transition metals, lanthanides, actinides


@cache
def _ion(symbol: str) -> _Ion:
    from pymatgen.core import Element

    element = Element(symbol)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # noble gases have no electronegativity
        electronegativity = float(element.X)
    mixes = bool(element.is_transition_metal or element.is_lanthanoid or element.is_actinoid)
    states = tuple(state for state in element.common_oxidation_states if state)
    return _Ion(states, electronegativity, bool(element.is_metal), mixes)


def all_metals(symbols: Sequence[str]) -> bool:
    """Return whether all elements are metals, so that charges mean nothing."""
    return all(_ion(symbol).is_metal for symbol in symbols)


def _ways(symbols: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the possible combinations of states, each as the lowest and highest mean state of the elements, (k,).

    Every negative element must be more electronegative than every positive one.
    """
    ions, ways = [_ion(symbol) for symbol in symbols], []
    choices = [[(min(ion.states), max(ion.states))] if ion.mixes and ion.states else
               [(state, state) for state in ion.states] for ion in ions]  # fmt: skip
    for way in product(*choices):
        positive = [ion.electronegativity for ion, (low, _) in zip(ions, way, strict=True) if low > 0]
        negative = [ion.electronegativity for ion, (low, _) in zip(ions, way, strict=True) if low < 0]
        if positive and negative and max(positive) < min(negative):
            low, high = zip(*way, strict=True)
            ways.append((np.array(low), np.array(high)))
    return ways


def neutral(symbols: Sequence[str], counts: np.ndarray) -> np.ndarray:
    """Return which formulas are neutral, (m,) bool.

    Args:
        symbols: The k elements.
        counts: Atoms of each element in each formula, (m, k).
    """
    found = np.zeros(len(counts), dtype=bool)
    for low, high in _ways(symbols):
        found |= (counts @ low <= 0) & (counts @ high >= 0)
    return found


def charges_of(formula: str) -> dict[str, float] | None:
    """Return mean oxidation states that make a formula neutral, element -> state.

    All atoms of a main-group element have the same common state; atoms of transition metals, lanthanides and actinides
    may differ in theirs. The result is {} where all elements are metals, and None where no states make it neutral.
    """
    amounts = formula_amounts(formula)
    symbols, counts = list(amounts), np.array(list(amounts.values()))
    if all_metals(symbols):
        return {}
    for low, high in _ways(symbols):
        least, most = counts @ low, counts @ high
        if least <= 0 <= most:
            share = 0.0 if most == least else -least / (most - least)
            return dict(zip(symbols, (low + share * (high - low)).tolist(), strict=True))
    return None


def neutral_formulas(symbols: Sequence[str], max_atoms: int) -> np.ndarray:
    """Return all neutral formulas that contain every one of some elements, (m, k), smallest first.

    For many elements the largest formulas are left out.
    """
    k = len(symbols)
    while max_atoms**k > _MOST_FORMULAS and max_atoms > k:
        max_atoms -= 1
    counts = np.stack(np.meshgrid(*[np.arange(1, max_atoms + 1)] * k, indexing="ij"), axis=-1).reshape(-1, k)
    counts = counts[counts.sum(axis=1) <= max_atoms]
    counts = counts[np.gcd.reduce(counts, axis=1) == 1]
    counts = counts[neutral(symbols, counts)]
    return counts[np.argsort(counts.sum(axis=1), kind="stable")]
