"""Prototypes of a whole data set: computed once, kept on disk, and joined where near-duplicates link them."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from crystrata.datasets.splits.candidates import Candidates
from crystrata.datasets.splits.grouped import random_split
from crystrata.datasets.splits.near_duplicates import near_duplicate_pairs
from crystrata.datasets.splits.prototypes import SYMPREC, UNKNOWN, prototype_keys
from crystrata.datasets.splits.request import Progress, SplitRequest
from crystrata.datasets.splits.split import Split
from crystrata.files import digest_of_json, lock, write_json
from crystrata.parallel import map_ordered

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
        cache_dir: Folder of the files `prototypes-<digest>.json`; a damaged one is computed anew, with a warning.
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
                warnings.warn(f"prototypes {path} are damaged; they are computed anew", stacklevel=2)
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
