"""Plain-text formats that state a lattice matrix: POSCAR and extended xyz."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from functools import partial

import numpy as np

from crystrata.structures.crystal import Crystal, CrystalError, Rejected
from crystrata.structures.readers.structure_file import (
    ADVICE,
    StructureFile,
    attempt,
    check_atom_count,
    check_periodic,
    checked_crystal,
    element_number,
    fractional,
)


def read_poscar(source: StructureFile) -> Iterator[Crystal | Rejected]:
    """Yield the crystal of a VASP 5 or 6 POSCAR; a CrystalError, whose `code` says why, if it is none.

    Own code, because pymatgen names elements H, He, Li where a file (VASP 4) does not say them, and scales Cartesian
    positions by a negative volume.
    """
    lines = source.text().split("\n")
    if len(lines) < 8:
        raise CrystalError("unreadable", f"a POSCAR has eight lines at least, this file {len(lines)}; {ADVICE}")
    cell, scale = _poscar_cell(lines)
    numbers, next_line = _poscar_species(lines)
    mode = lines[next_line].strip()[:1].lower()
    if mode == "s":  # selective dynamics: flags after the coordinates, which are not needed
        next_line += 1
        mode = lines[next_line].strip()[:1].lower()
    if mode not in ("c", "k", "d"):
        raise CrystalError("unreadable", f"line {next_line + 1} says neither Direct nor Cartesian; write one of them")
    rows = lines[next_line + 1 : next_line + 1 + len(numbers)]
    if len(rows) < len(numbers) or any(len(row.split()) < 3 for row in rows):
        raise CrystalError("unreadable", f"fewer positions than the {len(numbers)} atoms of the counts line; {ADVICE}")
    positions = np.array([[float(word) for word in row.split()[:3]] for row in rows]).reshape(-1, 3)
    frac = positions if mode == "d" else fractional(cell, positions * scale)
    yield checked_crystal(source.stem, cell, numbers, frac)


def _poscar_cell(lines: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the scaled cell (3, 3) [A] and the scale of Cartesian positions, (1,) or (3,)."""
    cell = np.array([[float(word) for word in line.split()[:3]] for line in lines[2:5]])
    scale = np.array([float(word) for word in lines[1].split()[:3] if re.match(r"[-+.\d]", word)])
    if len(scale) not in (1, 3) or not scale.all() or (len(scale) == 3 and scale.min() < 0):
        raise CrystalError("bad_cell", f"the scale in line 2 is {lines[1].strip()!r}; write one number, usually 1.0")
    if scale[0] < 0:  # a negative scale is the wanted volume [A^3]
        volume = abs(np.linalg.det(cell))
        if volume == 0:
            raise CrystalError("bad_cell", "the lattice vectors lie in one plane; check lines 3 to 5")
        scale = np.cbrt(-scale / volume)
    return cell * scale, scale


def _poscar_species(lines: list[str]) -> tuple[list[int], int]:
    """Return the atomic numbers (N,) and the index of the line after the counts."""
    row = 5
    symbols: list[str] = []
    while row < len(lines) and re.match(r"\s*[A-Za-z]", lines[row]):  # VASP wraps long lists
        symbols += [re.split(r"[_/]", word)[0] for word in lines[row].split()]  # Fe_pv/1a2b names a potential
        row += 1
    if not symbols:
        raise CrystalError("unknown_species", "line 6 names no elements (VASP 4 form); add a line such as 'Ga As'")
    counts: list[int] = []
    while len(counts) < len(symbols) and row < len(lines):
        counts += [int(word) for word in lines[row].split("!")[0].split()]
        row += 1
    if len(counts) != len(symbols) or min(counts) < 0 or row >= len(lines):
        raise CrystalError("unreadable", f"{len(symbols)} elements but {len(counts)} counts; {ADVICE}")
    check_atom_count(sum(counts))
    return [element_number(s) for s, count in zip(symbols, counts, strict=True) for _ in range(count)], row


def read_xyz(source: StructureFile) -> Iterator[Crystal | Rejected]:
    """Yield every frame of an extended xyz file; frames are separated by their atom counts, then read by ASE.

    A CrystalError `unreadable` if a frame does not begin with its atom count or is cut.
    """
    frames = list(_frames(source.text()))
    for index, frame in enumerate(frames):
        id = source.stem if len(frames) == 1 else f"{source.stem}#{index}"
        yield attempt(id, partial(_crystal_of_frame, id, frame))


def _frames(text: str) -> Iterator[list[str]]:
    lines = text.split("\n")
    start = 0
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        if not re.fullmatch(r"\s*\d{1,9}\s*", lines[start]):
            raise CrystalError(
                "unreadable", f"line {start + 1} is no atom count: no xyz file, or a wrong count; {ADVICE}"
            )
        end = start + 2 + int(lines[start])
        yield lines[start:end]
        start = end


def _crystal_of_frame(id: str, frame: list[str]) -> Crystal:
    from ase.io.extxyz import read_xyz as read_frames

    count = int(frame[0])
    check_atom_count(count)
    if count == 0:
        raise CrystalError("empty", "there is no atom in the frame")
    if len(frame) < count + 2 or not all(line.strip() for line in frame[2:]):
        raise CrystalError("unreadable", f"the frame has fewer lines than its {count} atoms; {ADVICE}")
    if not re.search(r"\blattice\s*=", frame[1], re.IGNORECASE):
        raise CrystalError("no_lattice", 'no lattice is given; write Lattice="ax ay az bx by bz cx cy cz" in line 2')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = next(read_frames(io.StringIO("\n".join(frame) + "\n"), index=0))
    except KeyError as error:
        raise CrystalError("unknown_species", f"unknown element or column {error}; write element symbols") from None
    check_periodic(atoms.pbc)
    cell = np.array(atoms.cell)
    return checked_crystal(id, cell, atoms.numbers, fractional(cell, atoms.positions))
