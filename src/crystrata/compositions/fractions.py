"""What a crystal is made of: atomic fractions as rows of a matrix, element z in column z - 1."""

from __future__ import annotations

import numpy as np

from crystrata.elements import MAX_ATOMIC_NUMBER


def atomic_fractions(numbers: np.ndarray, atom_offsets: np.ndarray) -> np.ndarray:
    """Return the atomic fractions of n crystals, (n, 103) float32.

    Args:
        numbers: Atomic numbers of all atoms, flat.
        atom_offsets: First atom of each crystal, (n + 1,).
    """
    n = len(atom_offsets) - 1
    crystal = np.repeat(np.arange(n), np.diff(atom_offsets))
    cell = crystal * MAX_ATOMIC_NUMBER + numbers.astype(np.int64) - 1
    counts = np.bincount(cell, minlength=n * MAX_ATOMIC_NUMBER).reshape(n, MAX_ATOMIC_NUMBER)
    return (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
