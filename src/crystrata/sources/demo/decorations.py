"""Prototypes with elements: which compounds are made, and at what size.

The elements are those of compounds that chemistry knows, and their polymorphs; the size follows from radii or from the
measured volume of an element.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import gcd
from typing import Any

import numpy as np

from crystrata.elements import atomic_number
from crystrata.sources.demo.bonds import bonds_of
from crystrata.sources.demo.prototypes import unit_cell
from crystrata.structures.crystal import Crystal

ELEMENTS: tuple[tuple[str, str], ...] = (
    ("fcc bcc", "Li Na K Rb Cs Ca Sr Ba V Nb Ta Cr Mo W Fe Rh Ni Pd Pt Ir Cu Ag Au Al Pb Th"),
    ("hcp bcc", "Be Mg Sc Y La Ti Zr Hf Re Ru Co Zn Cd Tl"),
    ("diamond", "C Si Ge"),
    ("arsenic", "As Sb Bi"),
)
"""Prototypes, and the elements that are made in each of them at their own measured volume."""

FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    # prototypes, and the elements of each role; every combination is made in every prototype
    ("rocksalt caesiumchloride", ("Li Na K Rb Cs", "F Cl Br I")),
    ("rocksalt", ("Li Na K", "H")),
    ("rocksalt zincblende", ("Ag Cu", "Cl Br I")),
    ("caesiumchloride rocksalt", ("Tl", "Cl Br I")),
    ("rocksalt wurtzite", ("Mg Ca Zn Cd", "O S Se Te")),
    ("zincblende", ("Be Mg Zn Cd", "S Se Te")),
    ("rocksalt", ("Sr Ba Pb Sn", "S Se Te")),
    ("rocksalt", ("Sr Ba", "O")),
    ("wurtzite rocksalt", ("Be", "O")),
    ("rocksalt nickeline", ("Mn Fe Ni", "O S")),
    ("nickeline", ("Co Ni Cr", "Se Te")),
    ("zincblende wurtzite", ("Al Ga In", "N P As Sb")),
    ("zincblende", ("B", "N P As")),
    ("boronnitride wurtzite", ("B", "N")),
    ("zincblende wurtzite", ("Si", "C")),
    ("rocksalt", ("Sc La", "N P As")),
    ("rocksalt", ("Ti Zr Hf V Nb Ta", "C N")),
    ("caesiumchloride coppergold", ("Ni Co Fe", "Al Ti")),
    ("caesiumchloride", ("Cu Ag Au", "Mg Zn Y")),
    ("coppergold", ("Cu Fe", "Au Pd Pt")),
    ("fluorite rutile", ("Mg Ca Sr Ba Zn Cd", "F")),
    ("fluorite", ("Sr Ba", "Cl")),
    ("fluorite rutile", ("Ti Zr Hf Sn Ce", "O")),
    ("fluorite", ("Th U", "O")),
    ("rutile", ("V Nb Mn Ge Pb Ru Ir", "O")),
    ("quartz cristobalite rutile", ("Si Ge", "O")),
    ("antifluorite", ("Li Na K Rb", "O S Se Te")),
    ("antifluorite", ("Mg", "Si Ge Sn Pb")),
    ("cadmiumiodide", ("Mg Ca Mn Cd Pb", "Cl Br I")),
    ("cadmiumiodide molybdenite", ("Zr Mo W Ta", "S Se")),
    ("cadmiumiodide", ("Ti Sn Pt", "S Se")),
    ("aluminiumdiboride", ("Mg Al Ti Zr Hf Nb Ta", "B")),
    ("laves", ("Ca Y", "Al Co Ni")),
    ("corundum", ("Al Ga In Sc Cr Fe", "O")),
    ("tetradymite", ("Sb Bi", "Se Te")),
    ("rheniumtrioxide", ("Mo W Re", "O")),
    ("rheniumtrioxide", ("Al Sc Fe", "F")),
    ("antirheniumtrioxide", ("Cu", "N")),
    ("coppertrigold", ("Ni Co Ti", "Al Si")),
    ("coppertrigold", ("Cu", "Au Pt")),
    ("bismuthtrifluoride", ("Li Na K", "Sb Bi")),
    ("bismuthtrifluoride", ("Fe", "Al Si")),
    ("chromiumsilicide", ("V Nb", "Si Ge Sn")),
    ("perovskite tetragonalperovskite", ("Ca Sr Ba Pb", "Ti Zr", "O")),
    ("perovskite", ("La", "Al Ga Sc", "O")),
    ("perovskite tetragonalperovskite", ("K Na", "Nb Ta", "O")),
    ("perovskite", ("K Rb", "Mg Zn Mn", "F")),
    ("perovskite", ("Cs", "Pb Sn Ge", "Cl Br I")),
    ("ilmenite perovskite", ("Mg Fe Mn Zn", "Ti", "O")),
    ("chalcopyrite delafossite", ("Cu Ag", "Al In", "S Se")),
    ("delafossite", ("Cu Ag", "Al Ga Fe", "O")),
    ("chalcopyrite", ("Zn Cd", "Ge Sn", "P As")),
    ("sodiumferrite", ("Li Na", "Co Sc In", "O")),
    ("halfheusler", ("Ti Zr Hf", "Ni", "Sn")),
    ("halfheusler", ("Li", "Mg Zn Cd", "N P As")),
    ("halfheusler", ("Nb", "Fe Co", "Sb Sn")),
    ("heusler", ("Co Ni Cu", "Mn Ti", "Al Sn")),
    ("matlockite", ("Ca Sr Ba Pb", "Cl Br", "F")),
    ("spinel", ("Mg Zn", "Al Ga", "O")),
    ("elpasolite", ("K Cs", "Na", "Al In", "F")),
    ("potassiumhexachloroplatinate", ("K Cs", "Pt Sn", "Cl")),
)


def decorations() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every (prototype, elements by role), each once, in the order of the tables."""
    made: set[tuple[str, tuple[str, ...]]] = set()
    for prototypes, roles in [(prototypes, (elements,)) for prototypes, elements in ELEMENTS] + list(FAMILIES):
        for elements in product(*(role.split() for role in roles)):
            for prototype in prototypes.split():
                if (prototype, elements) not in made:
                    made.add((prototype, elements))
                    yield prototype, elements


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
