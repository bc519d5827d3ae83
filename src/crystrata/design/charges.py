"""Charge balance: which formulas are neutral with common oxidation states. k elements, m formulas."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from crystrata.compositions.keys import formula_amounts

_MOST_FORMULAS = 300_000  # that are looked at for one set of elements


@dataclass(frozen=True)
class _Ion:
    """What an element may be in a compound: its common states, and how it pulls on electrons."""

    states: tuple[int, ...]
    electronegativity: float
    is_metal: bool
    mixes: bool  # whether atoms of it may differ in their states: transition metals, lanthanides and actinides


@cache
def _ion(symbol: str) -> _Ion:
    from pymatgen.core import Element

    element = Element(symbol)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # noble gases have no electronegativity
        pull = float(element.X)
    mixes = bool(element.is_transition_metal or element.is_lanthanoid or element.is_actinoid)
    return _Ion(tuple(state for state in element.common_oxidation_states if state), pull, bool(element.is_metal), mixes)


def all_metals(symbols: Sequence[str]) -> bool:
    """Whether charges say nothing, since all elements are metals."""
    return all(_ion(symbol).is_metal for symbol in symbols)


def _ways(symbols: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what states the elements may have together: lowest and highest mean state of each, (k,).

    Every element that is negative pulls more on electrons than every one that is positive.
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
    """Return mean oxidation states with which a formula is neutral, element -> state.

    Main-group elements have one of their common states, the same for all atoms; those of transition metals,
    lanthanides and actinides may differ from atom to atom. {} where all elements are metals and charges say nothing;
    None where no such states are neutral.
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
    """Return all neutral formulas of some elements, each with one atom or more, (m, k), of few atoms first.

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
