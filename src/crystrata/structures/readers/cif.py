"""CIF: cell, symmetry and sites, read strictly. What a crystal cannot be made of for certain is refused by name.

gemmi reads the syntax and knows the space groups; the rest is decided here. pymatgen's parser of CIFs is not used: it
repairs silently, drops sites, reads "Wat" as oxygen, and takes an unknown space group for P1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from crystrata.elements import SYMBOLS
from crystrata.structures.crystal import Crystal, CrystalError, Rejected
from crystrata.structures.readers.cif_blocks import Tags, number, parse_block, structure_blocks
from crystrata.structures.readers.cif_symmetry import expand, operations
from crystrata.structures.readers.disorder import is_full, majority_rows, note_of
from crystrata.structures.readers.structure_file import (
    StructureFile,
    attempt,
    check_atom_count,
    checked_crystal,
    element_number,
)

_CELL_TAGS = tuple(f"_cell_{name}" for name in "length_a length_b length_c angle_alpha angle_beta angle_gamma".split())
_TYPE = re.compile(r"([A-Za-z]+)(?:\d*\.?\d*[+-]?|[+-]\d*\.?\d*)")  # Si, Fe3+, O2-, Cu+, Fe+3, Ca2
_LETTERS = re.compile(r"[A-Za-z]*")
_PLACEHOLDER = re.compile(r"(wat|vac|dum)", re.IGNORECASE)  # water, vacancy, dummy: begin like W, V, D


def read_cif(source: StructureFile) -> Iterator[Crystal | Rejected]:
    """Yield an item for each data block that lists atoms; a CrystalError for what is wrong with the file as a whole."""
    blocks = list(structure_blocks(source.text()))
    if not blocks:
        raise CrystalError("no_structure", "no data block of the file lists atoms; export the structure as CIF")
    for index, block in enumerate(blocks):
        id = source.stem if len(blocks) == 1 else f"{source.stem}#{index}"
        yield attempt(id, partial(_crystal, id, block, source.majority_species))


def read_magnetic_cif(source: StructureFile) -> Iterator[Crystal | Rejected]:
    """Refuse a magnetic CIF: `magnetic`."""
    raise CrystalError("magnetic", "magnetic CIFs are not read; export the nuclear structure as an ordinary CIF")


def _crystal(id: str, block: str, majority_species: bool) -> Crystal:
    """Make the crystal of one data block."""
    tags = parse_block(block)
    _refuse_special(tags)
    positions = _positions(tags)
    numbers = _site_numbers(tags)
    cell = _cell(tags)
    choices: list[str] = []
    if majority_species:
        occupancies = _occupancies(tags)
        rows, choices = majority_rows(_labels(tags), numbers, positions, occupancies, cell)
        numbers, positions = [numbers[row] for row in rows], positions[rows]
    else:
        rows = list(range(len(numbers)))
        _refuse_partial(tags)
    _refuse_alternatives(tags, rows)
    rotations, translations = operations(tags, cell)
    frac, owners = expand(cell, positions, rotations, translations)
    crystal = checked_crystal(id, cell, np.array(numbers)[owners], frac, orientation_given=False)
    return replace(crystal, note=note_of(choices))


def _refuse_special(tags: Tags) -> None:
    """Refuse what is no ordinary crystal: magnetic and modulated structures, atoms without a position."""
    if any(tag.startswith(("_space_group_magn", "_space_group_symop_magn", "_atom_site_moment")) for tag in tags):
        raise CrystalError("magnetic", "magnetic CIFs are not read; export the nuclear structure as an ordinary CIF")
    if any(tag.startswith(("_cell_modulation_dimension", "_cell_wave_vector")) for tag in tags):
        raise CrystalError("modulated", "modulated structures have no unit cell; give a commensurate supercell")
    for value in tags.get("_atom_site_attached_hydrogens", []):
        if value not in ("?", ".") and number(value, "_atom_site_attached_hydrogens") != 0:
            raise CrystalError("missing_atoms", "hydrogen atoms are counted but not placed; add their positions")


def _positions(tags: Tags) -> np.ndarray:
    """Return the fractional coordinates of the listed sites, (M, 3)."""
    columns = [tags.get(f"_atom_site_fract_{axis}") for axis in "xyz"]
    if not all(columns):
        raise CrystalError("no_structure", "fractional coordinates (_atom_site_fract_x, _y, _z) are missing; add them")
    x, y, z = (column or [] for column in columns)
    names = tags.get("_atom_site_label") or tags.get("_atom_site_type_symbol") or []
    if not len(x) == len(y) == len(z) == len(names):
        raise CrystalError("unreadable", "the columns of the site table differ in length; export the file again")
    check_atom_count(len(x))
    for name, row in zip(names, zip(x, y, z, strict=True), strict=True):
        if any(value in ("?", ".") for value in row):
            raise CrystalError("missing_atoms", f"the site {name!r} has no position; add it or remove the site")
    return np.array(
        [[number(v, f"a coordinate of {n!r}") for v in row] for n, *row in zip(names, x, y, z, strict=True)]
    )


def _site_numbers(tags: Tags) -> list[int]:
    """Return the atomic number of every row of the site table; `unknown_species` where that is not certain."""
    labels = tags.get("_atom_site_label", [])
    types = tags.get("_atom_site_type_symbol") or ["?"] * len(labels)
    upper_case = all(symbol == symbol.upper() for symbol in types)
    declared = _declared_elements(tags)
    return [
        _from_type(symbol, upper_case)
        if symbol.strip() not in ("", "?", ".")
        else _from_label(labels[row] if row < len(labels) else "?", declared)
        for row, symbol in enumerate(types)
    ]


def _declared_elements(tags: Tags) -> set[str]:
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


def _labels(tags: Tags) -> list[str]:
    return tags.get("_atom_site_label") or tags["_atom_site_type_symbol"]


def _occupancies(tags: Tags) -> list[float]:
    """Return the occupancy of every row of the site table; one where none is stated."""
    labels = _labels(tags)
    stated = tags.get("_atom_site_occupancy") or ["."] * len(labels)
    return [
        1.0 if value in ("?", ".") else number(value, f"the occupancy of {label!r}")
        for label, value in zip(labels, stated, strict=True)
    ]


def _refuse_partial(tags: Tags) -> None:
    """Refuse partial, zero and excessive occupancies: `disordered`."""
    for label, occupancy in zip(_labels(tags), _occupancies(tags), strict=True):
        if not is_full(occupancy):
            raise CrystalError(
                "disordered",
                f"the site {label!r} has occupancy {occupancy:g}; give an ordered model with full sites, "
                "or take --majority-species",
            )


def _refuse_alternatives(tags: Tags, rows: Sequence[int]) -> None:
    """Refuse rows of the site table that belong to several alternatives of one assembly: `disordered`."""
    groups = tags.get("_atom_site_disorder_group", [])
    assemblies = tags.get("_atom_site_disorder_assembly") or ["."] * len(groups)
    taken = {(assemblies[row], groups[row]) for row in rows if groups and groups[row] not in ("?", ".", "", "0")}
    if len({assembly for assembly, _ in taken}) < len(taken):
        raise CrystalError("disordered", "sites belong to alternative disorder groups; keep the sites of one group")


def _cell(tags: Tags) -> np.ndarray:
    """Return lattice vectors as rows (3, 3) [A], in pymatgen's conventional orientation."""
    from pymatgen.core.lattice import Lattice

    values = []
    for name in _CELL_TAGS:
        text = tags.text(name)
        if text is None:
            raise CrystalError("bad_cell", f"{name} is missing; add the cell to the file")
        values.append(number(text, name))
    if not all(map(math.isfinite, values)):
        raise CrystalError("not_finite", "a cell length or angle is infinite")
    cosines = np.cos(np.radians(values[3:]))
    if min(values) <= 0 or max(values[3:]) >= 180 or 1 - (cosines**2).sum() + 2 * cosines.prod() < 1e-6:
        raise CrystalError("bad_cell", f"lengths and angles {', '.join(f'{v:g}' for v in values)} close no cell")
    return np.array(Lattice.from_parameters(*values).matrix)
