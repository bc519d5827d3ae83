"""The prototype of a crystal: what is left of it when elements and lengths are forgotten. Those of a whole data set are
computed once, cached on disk, and joined where near-duplicates (another relaxation, another source) link them.
n crystals, N atoms.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from crystrata.datasets.splits.candidates import Candidates, Progress, SplitRequest
from crystrata.datasets.splits.grouped import random_split
from crystrata.datasets.splits.split import Split
from crystrata.errors import DataError
from crystrata.files import digest_of_json, lock, write_json
from crystrata.parallel import map_ordered
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


VOLUME_RATIO = 1.02
"""Near-duplicates share reduced formula, space group (as the source states it) and atoms per cell, and their volumes
per atom differ by at most 2%."""


def near_duplicate_pairs(crystals: Candidates) -> np.ndarray:
    """Return pairs of rows that are near-duplicates and neighbours in volume, (m, 2): they link all near-duplicates."""
    order, key = _by_volume(crystals)
    volume = crystals.volumes[order]
    linked = (key[1:] == key[:-1]) & (volume[1:] <= VOLUME_RATIO * volume[:-1])
    return np.stack([order[:-1][linked], order[1:][linked]], axis=1)


def near_duplicates_of(crystals: Candidates, rows: np.ndarray) -> np.ndarray:
    """Return which crystals are near-duplicates of one of `rows` without being among them, (n,) bool."""
    order, key = _by_volume(crystals)
    volume = crystals.volumes[order]
    marked = np.zeros(len(crystals), dtype=bool)
    marked[rows] = True
    marked = marked[order]
    places = np.arange(len(order))
    below = np.maximum.accumulate(np.where(marked, places, -1))  # nearest marked row at or below, in order of volume
    above = np.minimum.accumulate(np.where(marked, places, len(order))[::-1])[::-1]
    near = np.zeros(len(order), dtype=bool)
    for nearest in (below, above):
        there = (nearest >= 0) & (nearest < len(order))
        mate = np.where(there, nearest, 0)
        ratio = np.maximum(volume, volume[mate]) / np.minimum(volume, volume[mate])
        near |= there & (key == key[mate]) & (ratio <= VOLUME_RATIO)
    found = np.zeros(len(order), dtype=bool)
    found[order] = near & ~marked
    return found


def _by_volume(crystals: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows sorted by kind, then volume, and the kind of each sorted row: formula, space group, cell size."""
    names = [
        f"{formula} {spacegroup} {atoms}"
        for formula, spacegroup, atoms in zip(
            crystals.formulas, crystals.spacegroups.tolist(), crystals.atom_counts.tolist(), strict=True
        )
    ]
    kinds = np.unique(names, return_inverse=True)[1]
    order = np.lexsort((crystals.volumes, kinds))
    return order, kinds[order]


VERSION = 2
"""Raised when the same crystals would give other keys, or the file another form."""

_CHUNK = 128  # crystals analysed between two steps of the progress bar
Chunk = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # lattice, atom counts, numbers, frac


def split_by_prototype(request: SplitRequest, protocol: str) -> Split:
    """Split with each prototype on one side, and near-duplicates together whatever the analysis says of them."""
    crystals = request.crystals
    keys = cached_prototypes(
        crystals, request.data_dir / "prototypes", workers=request.workers, progress=request.progress
    )
    split = random_split(joined(keys, near_duplicate_pairs(crystals)), seed=request.seed, protocol=protocol)
    notes = {"prototypes": len(set(keys)), "without_symmetry": sum(key.startswith(UNKNOWN) for key in keys)}
    return Split(split.train, split.val, split.test, protocol, request.seed, notes=notes)


def joined(keys: list[str], pairs: np.ndarray) -> list[str]:
    """Return one group a row: its key, or the first of all keys that linked rows bind together.

    Args:
        keys: Key of each row, (n,).
        pairs: Rows that must share a group, (m, 2).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, codes = np.unique(keys, return_inverse=True)
    links = coo_array((np.ones(len(pairs)), (codes[pairs[:, 0]], codes[pairs[:, 1]])), shape=(len(names),) * 2)
    component = connected_components(links, directed=False)[1]
    first = np.unique(component, return_index=True)[1]  # names are sorted: the first one stands for its component
    return names[first[component[codes]]].tolist()


def cached_prototypes(
    crystals: Candidates, cache_dir: Path, *, workers: int = 0, progress: Progress | None = None
) -> list[str]:
    """Return the prototype of each crystal, from a file where the same crystals were analysed before.

    Args:
        crystals: Crystals.
        cache_dir: Folder of the files `prototypes-<digest>.json`; a damaged one is computed again, with a warning.
        workers: Processes; 0 works in this one.
        progress: Called with (crystals done, crystals in all); not called when the file is there.

    Raises:
        DataError: spglib is not installed, or a process was killed.
        StorageError: The file cannot be written.
    """
    path = cache_dir / f"prototypes-{_digest(crystals)[:20]}.json"
    keys = _read(path)
    if keys is not None:  # without the lock: the folder of others may not be writable
        return keys
    with lock(path.with_suffix(".lock")):
        keys = _read(path)
        if keys is None:
            if path.exists():
                warnings.warn(f"prototypes {path} are damaged; they are computed again", stacklevel=2)
            keys = []
            for chunk in map_ordered(_keys, _chunks(crystals), workers):
                keys += chunk
                if progress:
                    progress(len(keys), len(crystals))
            kept = {"version": VERSION, "symprec": SYMPREC, "keys": keys}
            write_json(path, {**kept, "sha256": digest_of_json(kept)})
    return keys


def _digest(crystals: Candidates) -> str:
    digest = hashlib.sha256(f"prototypes {VERSION} {SYMPREC}\n".encode())
    for array, kind in (
        (crystals.lattice, "<f8"),
        (crystals.atom_counts, "<i8"),
        (crystals.numbers, "u1"),
        (crystals.frac, "<f8"),
    ):
        digest.update(np.ascontiguousarray(array, dtype=kind).data)
    return digest.hexdigest()


def _read(path: Path) -> list[str] | None:
    """Return the keys of a file; None where there is none or what is there is not what was written."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        written = kept.pop("sha256")
        keys: list[str] = kept["keys"]
        return keys if written == digest_of_json(kept) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _keys(chunk: Chunk) -> list[str]:
    return prototype_keys(*chunk)


def _chunks(crystals: Candidates) -> Iterator[Chunk]:
    bounds = np.concatenate([[0], np.cumsum(crystals.atom_counts)])
    for start in range(0, len(crystals), _CHUNK):
        rows = slice(start, min(start + _CHUNK, len(crystals)))
        atoms = slice(bounds[rows.start], bounds[rows.stop])
        # copies, because a memory map does not travel to another process
        cells, counts = np.array(crystals.lattice[rows]), np.array(crystals.atom_counts[rows])
        yield cells, counts, np.array(crystals.numbers[atoms]), np.array(crystals.frac[atoms])
