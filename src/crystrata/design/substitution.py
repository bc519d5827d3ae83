"""Candidate crystals of a formula, by substituting elements in known structures of the same stoichiometry.

m known crystals, Z elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from math import gcd

import numpy as np

from crystrata.compositions.element_features import load_element_features
from crystrata.compositions.keys import formula_amounts, group_key
from crystrata.elements import SYMBOLS, atomic_number
from crystrata.errors import UsageError
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal, CrystalError

MOST_ATOMS = 60  # in the cell of a prototype
_MOST_ELEMENTS = 6  # more elements have too many assignments
_PROTOTYPES = 8  # per requested candidate, before duplicates of a structure type are removed


@dataclass(frozen=True)
class Candidate:
    """A crystal made by substitution.

    Attributes:
        crystal: The crystal, with the id `<formula>-as-<id of the prototype>`.
        prototype: Id of the known crystal.
        prototype_formula: Reduced formula of the known crystal.
        difference: Mean distance, over the atoms, between the standardised features of the substituted elements; 0
            where the formula itself is known.
    """

    crystal: Crystal
    prototype: str
    prototype_formula: str
    difference: float

    @property
    def known(self) -> bool:
        """Whether no element was substituted."""
        return self.difference == 0


def candidates(
    formula: str,
    table: CrystalTable,
    structure_type: Callable[[Crystal], str],
    *,
    most: int = 10,
    volume_per_atom: Callable[[str], float] | None = None,
) -> list[Candidate]:
    """Return crystals of a formula in the structures of the most similar known compounds, most similar first.

    Args:
        formula: Formula with whole numbers of atoms.
        table: Known crystals.
        structure_type: Returns the same key for crystals that differ in elements and lengths only; the most similar
            compound of each type is used.
        most: Largest number of crystals.
        volume_per_atom: Returns the usual volume per atom of a formula [A^3]; cells are scaled by the ratio of these
            volumes, or not at all without it.

    Raises:
        UsageError: The formula has too many elements, or no known crystal has its stoichiometry.
    """
    target = _amounts(formula)
    assignments = _assignments(target, table.labels["formula"].astype(str).tolist())
    order = sorted(assignments, key=lambda row: assignments[row][0])[: most * _PROTOTYPES]
    if not order:
        raise UsageError(f"no known crystal has the stoichiometry of {formula}")
    crystals, ids, found = _rows(table, set(order)), table.labels.index, []
    seen: set[str] = set()
    for row in order:
        if len(crystals[row]) > MOST_ATOMS or (kind := structure_type(crystals[row])) in seen:
            continue
        seen.add(kind)
        difference, substitution = assignments[row]
        made = _substituted(crystals[row], substitution, formula, str(ids[row]), volume_per_atom)
        if made is not None:
            found.append(Candidate(made, str(ids[row]), crystals[row].formula, difference))
        if len(found) == most:
            break
    return found


def _amounts(formula: str) -> dict[str, int]:
    amounts = formula_amounts(group_key(formula))
    if len(amounts) > _MOST_ELEMENTS:
        raise UsageError(f"{formula} has {len(amounts)} elements: structures can be found for {_MOST_ELEMENTS} at most")
    return {symbol: int(amount) for symbol, amount in amounts.items()}


def _assignments(target: dict[str, int], formulas: Sequence[str]) -> dict[int, tuple[float, dict[str, str]]]:
    """Return row -> (difference, known element -> its substitute), for the rows with the same stoichiometry."""
    signature, by_formula = sorted(target.values()), dict[str, tuple[float, dict[str, str]] | None]()
    features = load_element_features().values
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    found = {}
    for row, formula in enumerate(formulas):
        if formula not in by_formula:
            by_formula[formula] = _assignment(target, signature, formula, features)
        if (assignment := by_formula[formula]) is not None:
            found[row] = assignment
    return found


def _assignment(
    target: dict[str, int], signature: list[int], formula: str, features: np.ndarray
) -> tuple[float, dict[str, str]] | None:
    """Return the substitution with the smallest difference, or None for another stoichiometry."""
    known = formula_amounts(formula)
    divisor = gcd(*map(int, known.values()))
    amounts = {symbol: int(amount) // divisor for symbol, amount in known.items()}
    if sorted(amounts.values()) != signature:
        return None
    sizes = sorted(set(signature))
    ways = [
        [
            tuple(zip([old for old in amounts if amounts[old] == size], new, strict=True))
            for new in permutations([symbol for symbol in target if target[symbol] == size])
        ]
        for size in sizes
    ]
    atoms, best = sum(signature), (np.inf, dict[str, str]())
    for way in product(*ways):
        substitution = dict(pair for pairs in way for pair in pairs)
        difference = sum(amounts[old] * _distance(features, old, new) for old, new in substitution.items()) / atoms
        best = min(best, (float(difference), substitution), key=lambda one: one[0])
    return best


def _distance(features: np.ndarray, one: str, other: str) -> float:
    return float(np.sqrt(((features[SYMBOLS.index(one)] - features[SYMBOLS.index(other)]) ** 2).mean()))


def _rows(table: CrystalTable, rows: set[int]) -> dict[int, Crystal]:
    found = {}
    for row, crystal in enumerate(table.crystals()):
        if row in rows:
            found[row] = crystal
            if len(found) == len(rows):
                break
    return found


def _substituted(
    crystal: Crystal,
    substitution: dict[str, str],
    formula: str,
    prototype: str,
    volume_per_atom: Callable[[str], float] | None,
) -> Crystal | None:
    """Return the crystal with substituted elements, or None if it is not valid."""
    numbers = np.array([atomic_number(substitution[SYMBOLS[number - 1]]) for number in crystal.numbers])
    stretch = 1.0
    if volume_per_atom is not None:
        stretch = (volume_per_atom(formula) / volume_per_atom(crystal.formula)) ** (1 / 3)
    try:
        return Crystal.create(f"{formula}-as-{prototype}", crystal.lattice * stretch, numbers, crystal.frac)
    except CrystalError:
        return None


def strained(crystal: Crystal, scales: Sequence[float]) -> list[Crystal]:
    """Return the crystal with its lengths scaled by each factor."""
    return [replace(crystal, lattice=crystal.lattice * scale) for scale in scales]
