"""The ways to write one crystal differently, as one table. N atoms."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from crystrata.structures.crystal import Crystal

_SYMPREC = 1e-4  # [A]


@dataclass(frozen=True)
class Rewritten:
    """A crystal written differently.

    Attributes:
        crystal: The same crystal.
        rotation: What tensors are turned by, (3, 3); its determinant is -1 for a reflection.
    """

    crystal: Crystal
    rotation: np.ndarray


Rewriting = Callable[[Crystal, np.random.Generator], Rewritten]


def _same_frame(change: Callable[[Crystal, np.random.Generator], Crystal]) -> Rewriting:
    return lambda crystal, rng: Rewritten(change(crystal, rng), np.eye(3))


def _turned(crystal: Crystal, rng: np.random.Generator, sign: int = 1) -> Rewritten:
    rotation = sign * Rotation.random(random_state=rng).as_matrix()
    return Rewritten(replace(crystal, lattice=crystal.lattice @ rotation.T), rotation)


def _translated(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    return replace(crystal, frac=crystal.frac + rng.uniform(-2, 2, 3))


def _permuted(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    order = rng.permutation(len(crystal))
    return replace(crystal, frac=crystal.frac[order], numbers=crystal.numbers[order])


def _in_other_images(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    return replace(crystal, frac=crystal.frac + rng.integers(-3, 4, crystal.frac.shape))


def supercell(crystal: Crystal, rows: np.ndarray) -> Crystal:
    """Return the same crystal with the lattice `rows @ lattice`, integer (3, 3); determinant 1 only changes the basis.

    Raises:
        ValueError: The rows do not span a cell.
    """
    reach = [range(row.clip(max=0).sum(), row.clip(min=0).sum() + 1) for row in rows.T]
    points = np.array(list(product(*reach))) @ np.linalg.inv(rows)
    inside = points[np.all((points > -1e-9) & (points < 1 - 1e-9), axis=1)]
    if len(inside) != round(abs(np.linalg.det(rows))):
        raise ValueError(f"{len(inside)} lattice points found in a supercell of {abs(np.linalg.det(rows)):.0f}")
    frac = (crystal.frac @ np.linalg.inv(rows))[None] + inside[:, None]
    return replace(
        crystal,
        lattice=rows @ crystal.lattice,
        numbers=np.tile(crystal.numbers, len(inside)),
        frac=frac.reshape(-1, 3),
    )


def _skew_supercell(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """Two to four cells, two where they are large."""
    most = 4 if len(crystal) <= 12 else 2
    while True:
        rows = rng.integers(-2, 3, (3, 3))
        if 2 <= round(abs(np.linalg.det(rows))) <= most:
            return supercell(crystal, rows)


def _another_basis(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """Vectors added to one another, exchanged and negated: determinant 1 or -1."""
    rows = np.eye(3, dtype=np.int64)[rng.permutation(3)] * rng.choice([-1, 1], 3)[:, None]
    for _ in range(3):
        one, other = rng.permutation(3)[:2]
        rows[one] += rng.choice([-1, 1]) * rows[other]
    return supercell(crystal, rows)


def _niggli(crystal: Crystal, _: np.random.Generator) -> Crystal:
    from pymatgen.core import Lattice

    reduced = Lattice(crystal.lattice).get_niggli_reduced_lattice().matrix
    return supercell(crystal, _integer(reduced @ np.linalg.inv(crystal.lattice)))


def _conventional(crystal: Crystal, _: np.random.Generator) -> Crystal:
    """The cell of the International Tables, in the frame of the crystal; larger only if the crystal is primitive."""
    import spglib

    with unheard():
        found: Any = spglib.get_symmetry_dataset(_cell(crystal), symprec=_SYMPREC)
    rows = np.linalg.inv(found.transformation_matrix).T
    return supercell(crystal, _integer(rows)) if np.abs(rows - np.rint(rows)).max() < 1e-3 else crystal


def _primitive_again(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    return primitive(_skew_supercell(crystal, rng))


def primitive(crystal: Crystal) -> Crystal:
    """Return the primitive cell that spglib finds, in the frame of the crystal; atoms stay where they are."""
    import spglib

    with unheard():
        found: Any = spglib.standardize_cell(_cell(crystal), to_primitive=True, no_idealize=True, symprec=_SYMPREC)
    lattice, frac, numbers = found
    return replace(crystal, lattice=lattice, frac=frac, numbers=numbers.astype(np.uint8))


@contextmanager
def unheard() -> Iterator[None]:
    """Silence spglib, which announces how it will report errors one day, and pymatgen about the noble gases."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)
        warnings.filterwarnings("ignore", "No Pauling electronegativity", UserWarning)  # species are sorted by it
        yield


def _cell(crystal: Crystal) -> Any:
    return crystal.lattice, crystal.frac, crystal.numbers


def _integer(rows: np.ndarray) -> np.ndarray:
    if np.abs(rows - np.rint(rows)).max() > 1e-3:
        raise ValueError(f"the new lattice is none of the crystal: {rows.tolist()}")
    return np.rint(rows).astype(np.int64)


def _everything(crystal: Crystal, rng: np.random.Generator) -> Rewritten:
    for change in (_skew_supercell, _translated, _permuted, _in_other_images):
        crystal = change(crystal, rng)
    return _turned(crystal, rng, sign=-1)


REWRITINGS: dict[str, Rewriting] = {
    "as it is": _same_frame(lambda crystal, _: crystal),
    "rotated": _turned,
    "rotated and reflected": lambda crystal, rng: _turned(crystal, rng, sign=-1),
    "translated": _same_frame(_translated),
    "permuted": _same_frame(_permuted),
    "in other images": _same_frame(_in_other_images),
    "skew supercell": _same_frame(_skew_supercell),
    "another basis": _same_frame(_another_basis),
    "Niggli cell": _same_frame(_niggli),
    "conventional cell": _same_frame(_conventional),
    "primitive cell of a supercell": _same_frame(_primitive_again),
    "everything at once": _everything,
}
"""Name -> rewriting."""
