"""The prototype of a crystal: what is left of it when elements and lengths are forgotten. n crystals, N atoms."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

from crystrata.errors import DataError
from crystrata.structures.crystal import reduced_formula

SYMPREC = 0.01
"""Distance by which an atom may miss its symmetric place [A]."""

UNKNOWN = "P1 (no symmetry found)"
"""Start of the key of a crystal whose symmetry cannot be analysed; its reduced formula follows."""

_ORTHORHOMBIC = range(16, 75)


def prototype_keys(lattice: np.ndarray, atom_counts: np.ndarray, numbers: np.ndarray, frac: np.ndarray) -> list[str]:
    """Return the prototype of each of n crystals.

    Args:
        lattice: Lattice vectors as rows, (n, 3, 3) [A].
        atom_counts: Atoms of each crystal, (n,).
        numbers: Atomic numbers of all, (N,).
        frac: Fractional coordinates of all, (N, 3).

    Raises:
        DataError: spglib is not installed.
    """
    try:
        import spglib
    except ImportError:
        raise DataError("--split by-prototype needs spglib: pip install spglib, or take another split") from None
    os.environ.setdefault("SPGLIB_WARNING", "OFF")  # its C code else prints over the progress bar
    failure = getattr(spglib, "SpglibError", RuntimeError)
    ends = np.cumsum(atom_counts)
    keys = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)
        for cell, start, end in zip(lattice, ends - atom_counts, ends, strict=True):
            species = np.array(numbers[start:end], dtype=np.int64)
            try:
                found = spglib.get_symmetry_dataset(
                    (cell.tolist(), frac[start:end].tolist(), species.tolist()), SYMPREC
                )
            except failure:
                found = None
            keys.append(f"{UNKNOWN} {reduced_formula(species)}" if found is None else _key(found, species))
    return keys


def _key(found: Any, species: np.ndarray) -> str:
    """Return anonymous formula, space group and Wyckoff positions as text: `225 1(4 m-3m) 1(4 m-3m)` for rock salt.

    A Wyckoff position is written as multiplicity and site symmetry, not as its letter: letters of equal positions are
    interchanged by another choice of origin or axes (both `a b c` and `a b d` are the cubic perovskite), so that by
    letters one prototype would stand on both sides. Equal letters always give equal keys.
    """
    values, amounts = np.unique(species, return_counts=True)
    amounts //= np.gcd.reduce(amounts)
    positions: dict[int, list[str]] = {int(value): [] for value in values}
    _, first, sizes = np.unique(found.crystallographic_orbits, return_index=True, return_counts=True)
    for atom, size in zip(first.tolist(), sizes.tolist(), strict=True):
        multiplicity = size * len(found.std_types) // len(species)
        symmetry = found.site_symmetry_symbols[atom]
        if found.number in _ORTHORHOMBIC:  # three axes that differ by their lengths alone: mm2 is m2m
            symmetry = "".join(sorted(symmetry))
        positions[int(species[atom])].append(f"{multiplicity} {symmetry}")
    elements = sorted(
        f"{amount}({', '.join(sorted(positions[int(value)]))})" for value, amount in zip(values, amounts, strict=True)
    )
    return f"{found.number} {' '.join(elements)}"
