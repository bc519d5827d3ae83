"""Recipes as a chemist reads them: fractions, the nearest small formula, charges. n elements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crystrata.compositions.keys import group_key
from crystrata.design.charges import all_metals, charges_of, neutral_formulas
from crystrata.elements import SYMBOLS
from crystrata.errors import UsageError

LEAST = 1e-3
"""Atomic fraction below which an element is not written down."""

MOST_ATOMS = 20
_MOST_ELEMENTS = 5  # of a formula that is sought among the neutral ones
_GOOD_ENOUGH = 0.01  # largest error of an atomic fraction above which a larger formula is looked for


@dataclass(frozen=True)
class Recipe:
    """A composition that was found.

    Attributes:
        weights: Atomic fractions, (n,).
        formula: Nearest formula of small integers, reduced, its elements in alphabetical order; of the neutral ones
            where there are some.
        rounding_error: Largest error of an atomic fraction in it.
        charges: See `charges_of`.
    """

    weights: np.ndarray
    formula: str
    rounding_error: float
    charges: dict[str, float] | None

    @classmethod
    def of(cls, weights: np.ndarray, max_atoms: int = MOST_ATOMS) -> Recipe:
        """Describe atomic fractions (n,) by the nearest neutral formula, or the nearest of all if none is neutral."""
        formula, error = neutral_formula(weights, max_atoms) or integer_formula(weights, max_atoms)
        return cls(weights, formula, error, charges_of(formula))

    @classmethod
    def written_as(cls, weights: np.ndarray, fractions: np.ndarray) -> Recipe:
        """Describe atomic fractions (n,) by a formula with these fractions (n,)."""
        formula = formula_of(fractions)
        return cls(weights, formula, float(np.abs(fractions - weights).max()), charges_of(formula))

    @property
    def text(self) -> str:
        """The fractions, largest first: `O0.571 P0.143 Li0.143 Fe0.143`."""
        order = np.argsort(-self.weights, kind="stable")
        return " ".join(f"{SYMBOLS[place]}{self.weights[place]:.3f}" for place in order if self.weights[place] >= LEAST)


def integer_formula(weights: np.ndarray, max_atoms: int = MOST_ATOMS) -> tuple[str, float]:
    """Return the formula nearest to atomic fractions (n,), and its largest error of a fraction.

    The smallest one whose error is below 0.01 is taken; where there is none, the one with the smallest error.

    Args:
        weights: Non-negative, not all zero.
        max_atoms: Most atoms in it.

    Raises:
        UsageError: There is nothing to write, or no atom allowed.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if max_atoms < 1 or not weights.sum() > 0:
        raise UsageError("a formula needs some amounts, and one atom or more")
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
    """Return the neutral formula of the same elements that is nearest to fractions (n,), and its largest error.

    None where `neutral_neighbours` has none.
    """
    formulas = neutral_neighbours(weights, max_atoms)
    if not len(formulas):
        return None
    errors = np.abs(formulas - weights / weights.sum()).max(axis=1)
    return formula_of(formulas[errors.argmin()]), float(errors.min())


def neutral_neighbours(weights: np.ndarray, max_atoms: int = MOST_ATOMS) -> np.ndarray:
    """Return the atomic fractions of all neutral formulas of the elements of a recipe (n,), (m, n), small ones first.

    There are none where all elements are metals, no charges balance, or the elements are more than five. Amounts below
    half an atom in `max_atoms` do not count.
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
    """Round amounts (n,) to integers of the same sum: what is cut off most is rounded up first."""
    counts = np.floor(amounts + 1e-9).astype(np.int64)
    missing = round(amounts.sum()) - int(counts.sum())
    counts[np.argsort(counts - amounts, kind="stable")[:missing]] += 1
    return counts
