"""Hulls that are kept: on disk between runs, and inside a model for crystals it has not seen."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crystrata.crystals.hull.energies import STABLE_WITHIN, Progress, checked_reference, hull_energies
from crystrata.crystals.hull.solvers import Solver
from crystrata.files import write_atomically

_VERSION = 2  # raised when the same energies would give another file
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class ReferenceHull:
    """The stable reference crystals: all that is needed to place another composition on their hull.

    Attributes:
        counts: (m, Z) atoms of each element.
        energies: (m,) formation energies [eV/atom].
    """

    counts: np.ndarray
    energies: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray, energies: np.ndarray, reference: np.ndarray, hull: np.ndarray) -> ReferenceHull:
        """Keep the reference rows that lie on their hull; arguments as in `hull_energies`, with its result."""
        stable = reference & (energies <= hull + STABLE_WITHIN)
        return cls(counts[stable].astype(np.int16), energies[stable])

    def at(self, counts: np.ndarray) -> np.ndarray:
        """Return the hull energy at compositions (n, Z), (n,) [eV/atom]."""
        present = counts.any(axis=0)
        within = ~self.counts[:, ~present].any(axis=1)  # others cannot take part in the hull of these elements
        joined = np.concatenate([counts.astype(np.int32), self.counts[within].astype(np.int32)])
        energies = np.concatenate([np.full(len(counts), np.nan), self.energies[within]])
        return hull_energies(joined, energies, np.isfinite(energies))[: len(counts)]


def cached_hull_energies(
    counts: np.ndarray,
    energies: np.ndarray,
    reference: np.ndarray,
    *,
    cache_dir: Path,
    key: str,
    progress: Progress | None = None,
    solver: Solver | None = None,
) -> np.ndarray:
    """Return `hull_energies`, from a file where the same hull was computed before.

    Args:
        counts: (n, Z), as in `hull_energies`.
        energies: (n,) [eV/atom], as in `hull_energies`.
        reference: (n,), as in `hull_energies`.
        cache_dir: Folder of the files `hull-<key>-<digest>.npy`; the digest covers the compositions, the rows that span
            the hull and their energies, not the energies of other rows. The file ends with its own SHA-256; a damaged
            one is computed anew, with a warning.
        key: Name of the data for a person who looks into the folder, such as `dft_3d_2021`.
        progress: As in `hull_energies`; not called when the file is there.
        solver: As in `hull_energies`.

    Raises:
        InputError: As `hull_energies`.
        StorageError: The file cannot be written.
    """
    counts, energies, used = checked_reference(counts, energies, reference)
    digest = hashlib.sha256(f"hull {_VERSION} {counts.shape}".encode())
    for array in (counts, used, energies[used]):
        digest.update(array.tobytes())
    path = cache_dir / f"hull-{re.sub(r'[^A-Za-z0-9_.-]', '_', key)}-{digest.hexdigest()}.npy"
    kept = _read(path)
    if kept is not None:
        return kept
    hull = hull_energies(counts, energies, reference, progress=progress, solver=solver)
    packed = io.BytesIO()
    np.save(packed, hull)
    content = packed.getvalue()
    write_atomically(path, lambda file: file.write(content + hashlib.sha256(content).digest()))
    return hull


def _read(path: Path) -> np.ndarray | None:
    """Return the hull of a file; None where there is none or what is there is not what was written."""
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        warnings.warn(f"hull {path} cannot be read ({error.strerror or error}); it is computed anew", stacklevel=3)
        return None
    content, digest = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        warnings.warn(f"hull {path} is damaged; it is computed anew", stacklevel=3)
        return None
    hull: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return hull
