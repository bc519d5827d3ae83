"""Neighbours in the latent space of a network. m crystals asked about, n known ones, d latent width."""

from __future__ import annotations

import numpy as np

_BLOCK = 1000  # crystals asked about at once: 32 MB of distances to 4,000 known ones


def nearest(
    latents: np.ndarray, known: np.ndarray, k: int, *, themselves: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest known crystals in no particular order: rows (m, k) and Euclidean distances (m, k) float64.

    Args:
        latents: Of the crystals asked about, (m, d).
        known: Of the known crystals, (n, d).
        k: Neighbours of each, at most n, or n - 1 with `themselves`.
        themselves: Whether the crystals asked about are the known ones; each is then left out of its own neighbours.
    """
    points, references = latents.astype(np.float64), known.astype(np.float64)
    norms = np.square(references).sum(axis=1)
    rows, distances = np.empty((len(points), k), dtype=np.int64), np.empty((len(points), k))
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        squares = np.square(block).sum(axis=1)[:, None] + norms - 2 * block @ references.T
        if themselves:
            own = np.arange(len(block))
            squares[own, start + own] = np.inf
        found = np.argpartition(squares, k - 1, axis=1)[:, :k]
        rows[start : start + _BLOCK] = found
        distances[start : start + _BLOCK] = np.sqrt(np.maximum(np.take_along_axis(squares, found, axis=1), 0))
    return rows, distances
