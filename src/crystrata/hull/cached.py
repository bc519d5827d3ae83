"""Hulls cached: on disk between runs, and inside a model for crystals it has not seen."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crystrata.files import write_atomically
from crystrata.hull.conventions import Convention, Levels
from crystrata.hull.energies import STABLE_WITHIN, Progress, checked_reference, hull_energies
from crystrata.hull.solvers import Solver

_VERSION = 3  # raised when the same energies would give another file
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class ReferenceHull:
    """The stable reference crystals: all that is needed to place another composition on their hull."""

    convention: Convention  # what the hull is made of
    counts: np.ndarray  # (m, Z) atoms of each element
    energies: np.ndarray  # (m,) energies that the hull is made of [eV/atom]

    def at(self, counts: np.ndarray) -> Levels:
        """Return where compositions (n, Z) lie over the hull."""
        present = counts.any(axis=0)
        within = ~self.counts[:, ~present].any(axis=1)  # others cannot take part in the hull of these elements
        joined = np.concatenate([counts.astype(np.int32), self.counts[within].astype(np.int32)])
        energies = np.concatenate([np.full(len(counts), np.nan), self.energies[within]])
        reference = np.isfinite(energies)
        hull = hull_energies(joined, energies, reference, subsystems=self.convention.subsystems)[: len(counts)]
        return over(hull, self.convention.energies(counts))


@dataclass(frozen=True)
class TrainingHull:
    """The hull of the training energies: levels of each crystal over it; stable crystals for other compositions."""

    levels: Levels
    reference: ReferenceHull


def training_hull(
    convention: Convention,
    counts: np.ndarray,
    formation: np.ndarray,
    reference: np.ndarray,
    cache_dir: Path,
    progress: Progress | None = None,
) -> TrainingHull:
    """Return the hull of a convention at all n rows, spanned by those where `reference` is true.

    Counts (n, Z) are atoms of each element; formation energies (n,) are in eV/atom, NaN where unknown; hulls are cached
    in `cache_dir`.
    """
    scale, reference = convention.energies(counts), reference & convention.may_span(counts)
    energies = scale.above(formation)
    hull = cached_hull_energies(
        counts, energies, reference,
        cache_dir=cache_dir, key="training", subsystems=convention.subsystems, progress=progress,
    )  # fmt: skip
    stable = reference & (energies <= hull + STABLE_WITHIN)
    stable_crystals = ReferenceHull(convention, counts[stable].astype(np.int16), energies[stable])
    return TrainingHull(over(hull, scale), stable_crystals)


def over(hull: np.ndarray, scale: Levels) -> Levels:
    """Return the levels over hull energies (n,), given how formation energies become the energies of the hull."""
    return Levels(scale.slope, scale.level + hull)


def cached_hull_energies(
    counts: np.ndarray,
    energies: np.ndarray,
    reference: np.ndarray,
    *,
    cache_dir: Path,
    key: str,
    subsystems: bool = True,
    progress: Progress | None = None,
    solver: Solver | None = None,
) -> np.ndarray:
    """Return `hull_energies`, whose arguments these are, from a file where the same hull was computed before.

    Args:
        cache_dir: Folder of the files `hull-<key>-<digest>.npy`; the digest covers the compositions, the rows that span
            the hull and their energies, not the energies of other rows. The file ends with its own SHA-256; a damaged
            one is computed again, with a warning.
        key: Name of the data for a person who looks into the folder, such as `dft_3d_2021`.
        progress: Not called when the file is there.
    """
    counts, energies, used = checked_reference(counts, energies, reference)
    digest = hashlib.sha256(f"hull {_VERSION} {counts.shape} {subsystems}".encode())
    for array in (counts, used, energies[used]):
        digest.update(array.tobytes())
    path = cache_dir / f"hull-{re.sub(r'[^A-Za-z0-9_.-]', '_', key)}-{digest.hexdigest()}.npy"
    cached = _read(path)
    if cached is not None:
        return cached
    hull = hull_energies(counts, energies, reference, subsystems=subsystems, progress=progress, solver=solver)
    packed = io.BytesIO()
    np.save(packed, hull)
    content = packed.getvalue()
    write_atomically(path, lambda file: file.write(content + hashlib.sha256(content).digest()))
    return hull


def _read(path: Path) -> np.ndarray | None:
    """Return the hull of a file; None if it is missing or damaged."""
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        warnings.warn(f"hull {path} cannot be read ({error.strerror or error}); it is computed again", stacklevel=3)
        return None
    content, digest = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        warnings.warn(f"hull {path} is damaged; it is computed again", stacklevel=3)
        return None
    hull: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return hull
