"""The crystal record that every reader produces and every graph is built from. N atoms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crystrata.elements import MAX_ATOMIC_NUMBER, SYMBOLS
from crystrata.errors import InputError

MIN_VOLUME_PER_ATOM = 2.0  # [A^3] below this no real solid exists and the neighbour count explodes
MAX_VOLUME_PER_ATOM = 200.0  # [A^3] above this atoms stand alone: allowed, but flagged
MIN_DISTANCE = 0.4  # [A] shorter than any bond (H2: 0.74)


@dataclass(frozen=True)
class Crystal:
    """A periodic arrangement of atoms.

    Attributes:
        id: Name of the crystal: a file name, a JARVIS id.
        lattice: Lattice vectors as rows, (3, 3) float64 [A].
        numbers: Atomic numbers, (N,) uint8.
        frac: Fractional coordinates, (N, 3) float64, not necessarily wrapped into the cell.
        orientation_given: True where the lattice matrix was stated as such (POSCAR, extended xyz, JSON); False where
            only lengths and angles were (CIF), so that tensor components have no frame to refer to.
        note: What a reader chose because it was asked to, for a person; empty where the input says everything.
    """

    id: str
    lattice: np.ndarray
    numbers: np.ndarray
    frac: np.ndarray
    orientation_given: bool = True
    note: str = ""

    @classmethod
    def create(
        cls, id: str, lattice: object, numbers: object, frac: object, *, orientation_given: bool = True
    ) -> Crystal:
        """Make a checked crystal from array-likes; a CrystalError, whose `code` says why, if it is not usable."""
        try:
            cell = np.array(lattice, dtype=np.float64).reshape(3, 3)
            positions = np.array(frac, dtype=np.float64).reshape(-1, 3)
            species = np.array(numbers, dtype=np.int64).reshape(-1)
        except (TypeError, ValueError) as error:
            raise CrystalError("bad_numbers", f"lattice, species or coordinates are no numbers: {error}") from None
        if len(species) == 0:
            raise CrystalError("empty", "there is no atom in the cell")
        if len(species) != len(positions):
            raise CrystalError("bad_numbers", f"{len(species)} species but {len(positions)} positions")
        if not (np.isfinite(cell).all() and np.isfinite(positions).all()):
            raise CrystalError("not_finite", "the lattice or a coordinate is NaN or infinite")
        if species.min() < 1 or species.max() > MAX_ATOMIC_NUMBER:
            raise CrystalError("unknown_species", f"an atomic number is outside 1 to {MAX_ATOMIC_NUMBER}")
        volume = abs(np.linalg.det(cell)) / len(species)
        if volume < MIN_VOLUME_PER_ATOM:
            raise CrystalError(
                "bad_cell", f"{volume:.3g} A^3 per atom; at least {MIN_VOLUME_PER_ATOM:g} is needed: check the units"
            )
        return cls(id, cell, species.astype(np.uint8), positions, orientation_given)

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def volume_per_atom(self) -> float:
        """Cell volume per atom [A^3]."""
        return float(abs(np.linalg.det(self.lattice)) / len(self.numbers))

    @cached_property
    def formula(self) -> str:
        """Reduced formula with elements in alphabetical order, such as `Ga1As1` -> `AsGa`: the group key of splits."""
        return reduced_formula(self.numbers)


def reduced_formula(numbers: np.ndarray) -> str:
    """Return the reduced formula of atomic numbers (N,), elements in alphabetical order."""
    values, counts = np.unique(np.asarray(numbers), return_counts=True)
    counts = counts // np.gcd.reduce(counts)
    parts = sorted((SYMBOLS[value - 1], int(count)) for value, count in zip(values, counts, strict=True))
    return "".join(symbol + (str(count) if count > 1 else "") for symbol, count in parts)


@dataclass(frozen=True)
class Rejected:
    """An input that became no crystal: which one, a stable code, and the reason in words."""

    id: str
    code: str
    reason: str


class CrystalError(InputError):
    """A structure that cannot be used; `code` is stable, the message is for a person."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
