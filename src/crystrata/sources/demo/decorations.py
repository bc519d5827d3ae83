"""Which elements stand in which prototype: compounds that chemistry knows, and their polymorphs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

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
