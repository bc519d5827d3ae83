"""Crystals that are in the data twice but for small differences: another relaxation, another source. n crystals."""

from __future__ import annotations

import numpy as np

from crystrata.datasets.splits.candidates import Candidates

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
