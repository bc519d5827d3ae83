"""One structure file and what every reader checks; how an error becomes a named rejection. N atoms."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from crystrata.elements import SYMBOLS, atomic_number
from crystrata.errors import InputError
from crystrata.structures.crystal import MIN_DISTANCE, Crystal, CrystalError, Rejected

ADVICE = "open it in VESTA or another viewer to see whether it is whole, or export it again"


@dataclass(frozen=True)
class StructureFile:
    """A structure file to be read."""

    name: str  # file name without folder, as given (`Si.cif.gz`)
    stem: str  # name without the extensions that say the format: the id of its only structure
    open: Callable[[], IO[bytes]]  # opens the raw bytes
    max_bytes: int  # largest size that is read, before and after decompression [bytes]
    path: Path | None = None  # place on disk; None for a member of an archive
    majority_species: bool = False  # whether a disordered site is read as its majority species; else it is refused

    @property
    def compressed(self) -> bool:
        """Whether the file is gzip-compressed, by its name."""
        return self.name.lower().endswith(".gz")

    def content(self) -> bytes:
        """Return the bytes, decompressed; a CrystalError `too_large`, or `unreadable` for damaged compression."""
        # One byte more than allowed is enough to know; sizes declared in archives and gzip tails are not trusted.
        try:
            with self.open() as raw:
                if self.compressed:
                    with gzip.GzipFile(fileobj=raw) as file:
                        content = file.read(self.max_bytes + 1)
                else:
                    content = raw.read(self.max_bytes + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise CrystalError("unreadable", f"its compression is damaged ({error}); fetch the file again") from None
        if len(content) > self.max_bytes:
            raise CrystalError("too_large", f"it is larger than {self.max_bytes / 1e6:g} MB; give a smaller file")
        return content

    def text(self) -> str:
        """Return the text with plain newlines, no byte-order mark; `empty`, `too_large` or `unreadable` (binary)."""
        content = self.content()
        if not content.strip():
            raise CrystalError("empty", "the file is empty; export it again")
        if b"\0" in content:
            raise CrystalError("unreadable", f"it holds binary data, no text; {ADVICE}")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
        return text.replace("\r\n", "\n").replace("\r", "\n")


MAX_ATOMS = 2_000
MAX_CELL_LENGTH = 1_000.0  # [A] longer cells are files in wrong units
MIN_CELL_HEIGHT = 0.05  # [A] flatter cells make the number of periodic images explode
MAX_COORDINATE = 1_000.0  # fractional coordinates beyond this have lost their digits, or are no fractions


def element_number(symbol: str) -> int:
    """Return the atomic number of an exactly written symbol; a CrystalError `unknown_species` for others."""
    if symbol in ("D", "T"):
        raise CrystalError("unknown_species", f"{symbol!r} is an isotope; write H if the isotope does not matter")
    try:
        return atomic_number(symbol)
    except InputError as error:
        raise CrystalError("unknown_species", str(error)) from None


def check_atom_count(count: int) -> None:
    """Refuse more than `MAX_ATOMS` atoms: `too_large`."""
    if count > MAX_ATOMS:
        raise CrystalError("too_large", f"{count} atoms; at most {MAX_ATOMS} are read: give a smaller (primitive) cell")


def check_periodic(pbc: object) -> None:
    """Refuse a structure that says it does not repeat along all three vectors: `not_periodic`."""
    if not np.all(np.asarray(pbc, dtype=bool)):
        raise CrystalError("not_periodic", "it is not periodic in all three directions; give the cell of a crystal")


def fractional(cell: np.ndarray, cartesian: object) -> np.ndarray:
    """Return fractional coordinates (N, 3) of Cartesian ones (N, 3) [A] in a cell (3, 3) with vectors as rows [A].

    A CrystalError `no_lattice` for a cell of zeros, `not_finite` or `bad_cell` for one without volume.
    """
    if not cell.any():
        raise CrystalError("no_lattice", "no lattice is given; a crystal needs three lattice vectors")
    if not np.isfinite(cell).all():
        raise CrystalError("not_finite", "the lattice is NaN or infinite")
    try:
        return np.linalg.solve(cell.T, np.asarray(cartesian, dtype=np.float64).reshape(-1, 3).T).T
    except np.linalg.LinAlgError:
        raise CrystalError("bad_cell", "the lattice vectors lie in one plane; check the cell") from None


def checked_crystal(
    id: str, lattice: object, numbers: object, frac: object, *, orientation_given: bool = True
) -> Crystal:
    """Make a crystal whose size, cell and distances are those of a real solid; arguments as of `Crystal.create`.

    A CrystalError `too_large`, `bad_cell`, `bad_numbers`, `overlapping`, or with a code of `Crystal.create`.
    """
    check_atom_count(len(np.atleast_1d(np.asarray(numbers))))
    crystal = Crystal.create(id, lattice, numbers, frac, orientation_given=orientation_given)
    if np.linalg.norm(crystal.lattice, axis=1).max() > MAX_CELL_LENGTH:
        raise CrystalError("bad_cell", f"a lattice vector is longer than {MAX_CELL_LENGTH:g} A; check the units")
    heights = 1.0 / np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0)  # (3,) between lattice planes
    if heights.min() < MIN_CELL_HEIGHT:
        raise CrystalError("bad_cell", f"the cell is only {heights.min():.2g} A high; give the reduced cell")
    if np.abs(crystal.frac).max() > MAX_COORDINATE:
        raise CrystalError("bad_numbers", "a fractional coordinate is far outside the cell; check the units")
    _check_distances(crystal, heights)
    return crystal


def _check_distances(crystal: Crystal, heights: np.ndarray) -> None:
    """Refuse atoms closer than `MIN_DISTANCE`, images at a face included; heights of the cell (3,) [A]."""
    from scipy.spatial import cKDTree

    points, atoms = crystal.frac - np.floor(crystal.frac), np.arange(len(crystal))
    for axis, margin in enumerate(MIN_DISTANCE / heights):
        copies = [(points, atoms)]
        for shift in (sign * step for step in range(1, int(np.ceil(margin)) + 1) for sign in (-1, 1)):
            place = points[:, axis] + shift
            near = (place >= -margin) & (place <= 1 + margin)
            moved = points[near]
            moved[:, axis] += shift
            copies.append((moved, atoms[near]))
        points, atoms = (np.concatenate(parts) for parts in zip(*copies, strict=True))
    cartesian = points @ crystal.lattice
    distance, found = cKDTree(cartesian).query(cartesian[: len(crystal)], k=2, distance_upper_bound=MIN_DISTANCE)
    row = int(np.argmin(distance[:, 1]))  # the nearest to an atom is the atom itself, or one on top of it
    if np.isfinite(distance[row, 1]):
        other = atoms[found[row, 1] if found[row, 1] != row else found[row, 0]]
        names = [f"{SYMBOLS[crystal.numbers[i] - 1]} (atom {i + 1})" for i in sorted((row, int(other)))]
        raise CrystalError(
            "overlapping",
            f"{names[0]} and {names[1]} are {distance[row, 1]:.2f} A apart, closer than {MIN_DISTANCE:g} A; "
            "remove the repeated or wrong site",
        )


def attempt(id: str, make: Callable[[], Crystal]) -> Crystal | Rejected:
    """Return what `make` returns, or the rejection that its error stands for.

    Parsers of foreign files fail in every way there is; each failure but a lack of memory is the file's.
    """
    try:
        return make()
    except Exception as error:
        return rejected(id, error)


def rejected(id: str, error: Exception) -> Rejected:
    """Return the rejection for an error: its own code, or `unreadable`; the reason is one line."""
    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, CrystalError):
        return Rejected(id, error.code, _one_line(str(error)))
    if isinstance(error, OSError):
        return Rejected(id, "unreadable", f"it cannot be opened: {error.strerror or _one_line(str(error))}")
    return Rejected(
        id, "unreadable", f"it cannot be parsed ({_one_line(f'{type(error).__name__}: {error}')}); {ADVICE}"
    )


def _one_line(text: str, longest: int = 300) -> str:
    line = "".join(character if character.isprintable() else " " for character in " ".join(text.split()))
    return line if len(line) <= longest else line[:longest] + "..."
