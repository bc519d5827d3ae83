"""Prototype structures as data: space group, axes and Wyckoff positions, from textbooks; with elements they become
crystals, sized by radii or by the measured volume of an element.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import gcd
from typing import Any

import numpy as np

from crystrata.elements import atomic_number
from crystrata.sources.demo.bonds import bonds_of
from crystrata.structures.crystal import Crystal

IDEAL_HCP = 1.633  # sqrt(8/3), the c/a of close-packed spheres


@dataclass(frozen=True)
class Prototype:
    """A crystal structure without elements and without a length scale.

    Attributes:
        name: Name in ids, `rocksalt`.
        spacegroup: Number in the International Tables.
        sites: Role and fractional coordinates of each Wyckoff position; role "A" takes the first element of a
            decoration, "B" the second, and so on.
        c: c/a ratio of the conventional cell; b = a throughout.
        hexagonal: Conventional cell with gamma 120 degrees (hexagonal and rhombohedral groups).
        setting: Origin choice in the International Tables (2: at the inversion centre).
    """

    name: str
    spacegroup: int
    sites: tuple[tuple[str, tuple[float, float, float]], ...]
    c: float = 1.0
    hexagonal: bool = False
    setting: int = 1


@dataclass(frozen=True)
class UnitCell:
    """A primitive cell of a prototype with a = 1: lattice rows (3, 3), fractions (N, 3), role index (N,)."""

    lattice: np.ndarray
    frac: np.ndarray
    roles: np.ndarray


_T = 1 / 3
_S = 2 / 3

PROTOTYPES: dict[str, Prototype] = {
    prototype.name: prototype
    for prototype in (
        # elements
        Prototype("fcc", 225, (("A", (0, 0, 0)),)),
        Prototype("bcc", 229, (("A", (0, 0, 0)),)),
        Prototype("hcp", 194, (("A", (_T, _S, 0.25)),), c=IDEAL_HCP, hexagonal=True),
        Prototype("diamond", 227, (("A", (0.125, 0.125, 0.125)),), setting=2),
        Prototype("arsenic", 166, (("A", (0, 0, 0.229)),), c=2.7, hexagonal=True),
        # AB
        Prototype("rocksalt", 225, (("A", (0, 0, 0)), ("B", (0.5, 0.5, 0.5)))),
        Prototype("caesiumchloride", 221, (("A", (0, 0, 0)), ("B", (0.5, 0.5, 0.5)))),
        Prototype("zincblende", 216, (("A", (0, 0, 0)), ("B", (0.25, 0.25, 0.25)))),
        Prototype("wurtzite", 186, (("A", (_T, _S, 0)), ("B", (_T, _S, 0.377))), c=1.62, hexagonal=True),
        Prototype("nickeline", 194, (("A", (0, 0, 0)), ("B", (_T, _S, 0.25))), c=1.5, hexagonal=True),
        Prototype("boronnitride", 194, (("A", (_T, _S, 0.25)), ("B", (_T, _S, 0.75))), c=2.66, hexagonal=True),
        Prototype("coppergold", 123, (("A", (0, 0, 0)), ("B", (0.5, 0.5, 0.5))), c=1.36),
        # AB2 and A2B: A takes the first element
        Prototype("fluorite", 225, (("A", (0, 0, 0)), ("B", (0.25, 0.25, 0.25)))),
        Prototype("antifluorite", 225, (("A", (0.25, 0.25, 0.25)), ("B", (0, 0, 0)))),
        Prototype("rutile", 136, (("A", (0, 0, 0)), ("B", (0.305, 0.305, 0))), c=0.65),
        Prototype("cadmiumiodide", 164, (("A", (0, 0, 0)), ("B", (_T, _S, 0.25))), c=1.62, hexagonal=True),
        Prototype("molybdenite", 194, (("A", (_T, _S, 0.25)), ("B", (_T, _S, 0.621))), c=3.9, hexagonal=True),
        Prototype("cristobalite", 227, (("A", (0.125, 0.125, 0.125)), ("B", (0, 0, 0))), setting=2),
        Prototype("quartz", 154, (("A", (0.47, 0, _S)), ("B", (0.414, 0.267, 0.786))), c=1.1, hexagonal=True),
        Prototype("aluminiumdiboride", 191, (("A", (0, 0, 0)), ("B", (_T, _S, 0.5))), c=1.08, hexagonal=True),
        Prototype("laves", 227, (("A", (0.125, 0.125, 0.125)), ("B", (0.5, 0.5, 0.5))), setting=2),
        # A2B3, AB3, A3B
        Prototype("corundum", 167, (("A", (0, 0, 0.352)), ("B", (0.306, 0, 0.25))), c=2.73, hexagonal=True),
        Prototype("tetradymite", 166, (("A", (0, 0, 0.4)), ("B", (0, 0, 0)), ("B", (0, 0, 0.21))), c=6.95,
                  hexagonal=True),
        Prototype("rheniumtrioxide", 221, (("A", (0, 0, 0)), ("B", (0.5, 0, 0)))),
        Prototype("antirheniumtrioxide", 221, (("A", (0.5, 0, 0)), ("B", (0, 0, 0)))),
        Prototype("coppertrigold", 221, (("A", (0, 0.5, 0.5)), ("B", (0, 0, 0)))),
        Prototype("bismuthtrifluoride", 225, (("A", (0.25, 0.25, 0.25)), ("A", (0.5, 0.5, 0.5)), ("B", (0, 0, 0)))),
        Prototype("chromiumsilicide", 223, (("A", (0.25, 0, 0.5)), ("B", (0, 0, 0)))),
        # ternaries
        Prototype("perovskite", 221, (("A", (0.5, 0.5, 0.5)), ("B", (0, 0, 0)), ("C", (0.5, 0, 0)))),
        Prototype("tetragonalperovskite", 99, (("A", (0, 0, 0)), ("B", (0.5, 0.5, 0.53)), ("C", (0.5, 0.5, 0.06)),
                                               ("C", (0.5, 0, 0.57))), c=1.05),
        Prototype("ilmenite", 148, (("A", (0, 0, 0.355)), ("B", (0, 0, 0.146)), ("C", (0.317, 0.023, 0.245))), c=2.77,
                  hexagonal=True),
        Prototype("chalcopyrite", 122, (("A", (0, 0, 0)), ("B", (0, 0, 0.5)), ("C", (0.25, 0.25, 0.125))), c=1.98),
        Prototype("delafossite", 166, (("A", (0, 0, 0)), ("B", (0, 0, 0.5)), ("C", (0, 0, 0.11))), c=5.9,
                  hexagonal=True),
        Prototype("sodiumferrite", 166, (("A", (0, 0, 0.5)), ("B", (0, 0, 0)), ("C", (0, 0, 0.26))), c=5.0,
                  hexagonal=True),
        Prototype("halfheusler", 216, (("A", (0.5, 0.5, 0.5)), ("B", (0.25, 0.25, 0.25)), ("C", (0, 0, 0)))),
        Prototype("heusler", 225, (("A", (0.25, 0.25, 0.25)), ("B", (0.5, 0.5, 0.5)), ("C", (0, 0, 0)))),
        Prototype("matlockite", 129, (("A", (0.25, 0.25, 0.205)), ("B", (0.25, 0.25, 0.645)), ("C", (0.75, 0.25, 0))),
                  c=1.7, setting=2),
        Prototype("spinel", 227, (("A", (0.125, 0.125, 0.125)), ("B", (0.5, 0.5, 0.5)), ("C", (0.2625,) * 3)),
                  setting=2),
        Prototype("elpasolite", 225, (("A", (0.25, 0.25, 0.25)), ("B", (0.5, 0.5, 0.5)), ("C", (0, 0, 0)),
                                      ("D", (0.24, 0, 0)))),
        Prototype("potassiumhexachloroplatinate", 225, (("A", (0.25, 0.25, 0.25)), ("B", (0, 0, 0)),
                                                         ("C", (0.24, 0, 0)))),
    )
}  # fmt: skip
"""Name -> prototype. A new prototype is one more row."""


@cache
def unit_cell(name: str) -> UnitCell:
    """Return the primitive cell of a prototype, its orbits expanded by ASE's space-group tables."""
    from ase.spacegroup import crystal

    prototype = PROTOTYPES[name]
    # The role index is carried through ASE as an atomic number: A is hydrogen, B helium, C lithium, D beryllium.
    placeholders = dict(zip("ABCD", ("H", "He", "Li", "Be"), strict=True))
    atoms: Any = crystal(
        [placeholders[role] for role, _ in prototype.sites],
        [position for _, position in prototype.sites],
        spacegroup=prototype.spacegroup,
        setting=prototype.setting,
        cellpar=[1, 1, prototype.c, 90, 90, 120 if prototype.hexagonal else 90],
        primitive_cell=True,
    )
    return UnitCell(np.array(atoms.cell), atoms.get_scaled_positions(), atoms.numbers - 1)


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
