"""Prototype structures as data: space group, axes and Wyckoff positions, from textbooks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

IDEAL_HCP = 1.633  # sqrt(8/3), the c/a of close-packed spheres


@dataclass(frozen=True)
class Prototype:
    """A crystal structure without elements and without a length scale."""

    name: str  # name in ids, `rocksalt`
    spacegroup: int  # number in the International Tables
    # role and fractional coordinates of each Wyckoff position; role "A" takes the first element of a decoration, "B"
    # the second, and so on
    sites: tuple[tuple[str, tuple[float, float, float]], ...]
    c: float = 1.0  # c/a ratio of the conventional cell; b = a throughout
    hexagonal: bool = False  # conventional cell with gamma 120 degrees (hexagonal and rhombohedral groups)
    setting: int = 1  # origin choice in the International Tables (2: at the inversion centre)


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
