"""A prototype with elements becomes a crystal, sized by radii or by the measured volume of an element."""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np

from crystrata.elements import atomic_number
from crystrata.sources.demo.bonds import bonds_of
from crystrata.sources.demo.prototypes import unit_cell
from crystrata.structures.crystal import Crystal

_TRIAL_VOLUME = 20.0  # [A^3/atom] where the search for the size begins


def decorate(id: str, prototype: str, elements: tuple[str, ...]) -> Crystal:
    """Return a prototype's primitive cell with elements in its roles, at a physical size."""
    cell = unit_cell(prototype)
    numbers = np.array([atomic_number(symbol) for symbol in elements])[cell.roles]
    frac = np.round(cell.frac, 12)

    def scaled(length: float) -> Crystal:
        # Rounded, so that structures and their digest are the same on every machine.
        return Crystal.create(id, np.round(cell.lattice * length, 10) + 0.0, numbers, frac)

    unit_volume = abs(np.linalg.det(cell.lattice)) / len(numbers)
    if len(elements) == 1:
        return scaled(float((_elemental_volume(elements[0]) / unit_volume) ** (1 / 3)))
    length = float((_TRIAL_VOLUME / unit_volume) ** (1 / 3))
    for _ in range(2):  # the second time only corrects for the cutoff
        length *= _relaxation(scaled(length))
    return scaled(length)


def chemical_formula(prototype: str, elements: tuple[str, ...]) -> str:
    """Return the formula as chemists write it, roles in order: `CaF2`, `Mg2Si`, `BaTiO3`."""
    counts = np.bincount(unit_cell(prototype).roles).tolist()
    divisor = gcd(*counts)
    parts = zip(elements, (count // divisor for count in counts), strict=True)
    return "".join(symbol + (str(count) if count > 1 else "") for symbol, count in parts)


def _relaxation(crystal: Crystal) -> float:
    """Return the factor on all lengths that fits the bonds best, by least squares, to the sums of Slater's radii.

    The radii hold for about five neighbours; bonds grow with the coordination number to the power 1/12
    (L. Pauling, The Nature of the Chemical Bond, 3rd ed., ch. 13: 1/(n - 1) with Born's exponent n).
    """
    bonds = bonds_of(crystal)
    radius = bonds.of_atoms("radius")
    coordination = np.sqrt(bonds.coordination[bonds.centre] * bonds.coordination[bonds.neighbour])
    ideal = (radius[bonds.centre] + radius[bonds.neighbour]) * (coordination / 5) ** (1 / 12)
    return bonds.mean(ideal * bonds.length) / bonds.mean(bonds.length**2)


def _elemental_volume(symbol: str) -> float:
    """Return the measured volume of an element [A^3/atom], from ASE's reference states; all its polymorphs share it."""
    from ase.data import reference_states

    state: dict[str, Any] = dict(reference_states[atomic_number(symbol)] or {})
    a = float(state["a"])
    if state["symmetry"] == "hcp":
        return a**3 * float(state["c/a"]) * 3**0.5 / 4
    if state["symmetry"] == "rhombohedral":
        cosine = np.cos(np.radians(state["alpha"]))
        return float(a**3 * np.sqrt(1 - 3 * cosine**2 + 2 * cosine**3) / 2)
    return a**3 / {"fcc": 4, "bcc": 2, "diamond": 8}[str(state["symmetry"])]
