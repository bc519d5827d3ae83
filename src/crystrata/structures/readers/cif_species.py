"""Which element a CIF means by a type symbol or a site label. Nothing is guessed: the file itself must decide."""

from __future__ import annotations

import re

from crystrata.elements import SYMBOLS
from crystrata.structures.crystal import CrystalError
from crystrata.structures.readers.checks import element_number
from crystrata.structures.readers.cif_blocks import Tags

_TYPE = re.compile(r"([A-Za-z]+)(?:\d*\.?\d*[+-]?|[+-]\d*\.?\d*)")  # Si, Fe3+, O2-, Cu+, Fe+3, Ca2
_LETTERS = re.compile(r"[A-Za-z]*")
_PLACEHOLDER = re.compile(r"(wat|vac|dum)", re.IGNORECASE)  # water, vacancy, dummy: begin like W, V, D


def site_numbers(tags: Tags) -> list[int]:
    """Return the atomic number of every row of the site table.

    Raises:
        CrystalError: `unknown_species`: a symbol or label names no element for certain.
    """
    labels = tags.get("_atom_site_label", [])
    types = tags.get("_atom_site_type_symbol") or ["?"] * len(labels)
    upper_case = all(symbol == symbol.upper() for symbol in types)
    declared = declared_elements(tags)
    return [
        _from_type(symbol, upper_case)
        if symbol.strip() not in ("", "?", ".")
        else _from_label(labels[row] if row < len(labels) else "?", declared)
        for row, symbol in enumerate(types)
    ]


def declared_elements(tags: Tags) -> set[str]:
    """Return the elements of the declared formula; an empty set if none is stated."""
    formula = tags.text("_chemical_formula_sum", "_chemical_formula_structural", "_chemical_formula_moiety") or ""
    return {symbol for symbol in re.findall(r"[A-Z][a-z]?", formula) if symbol in SYMBOLS}


def _from_type(symbol: str, upper_case: bool) -> int:
    match = _TYPE.fullmatch(symbol.strip())
    letters = match[1] if match else symbol.strip()
    # Old databases write every symbol in capitals. In a mixed table CO is a group of two atoms, not cobalt.
    if upper_case and letters.isalpha():
        letters = letters.capitalize()
    return element_number(letters)


def _from_label(label: str, declared: set[str]) -> int:
    """Read a label by the standard (an element, then anything but a letter), else as the declared formula allows."""
    letters = _LETTERS.match(label.strip())
    word = letters[0] if letters else ""
    if len(word) == 1 or (word in SYMBOLS and (not declared or word in declared)):
        return element_number(word)
    # OA, OW1, SiT, CA1: only an element that the formula names, and only if there is one reading.
    readings = {word[:1].upper(), word[:2].capitalize()} & declared
    if len(readings) != 1 or word in SYMBOLS or _PLACEHOLDER.match(word):
        raise CrystalError(
            "unknown_species",
            f"the site {label!r} names no element for certain; add _atom_site_type_symbol to the file",
        )
    return element_number(readings.pop())
