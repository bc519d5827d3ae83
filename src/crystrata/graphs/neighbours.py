"""Neighbour search and the smooth neighbourhoods of crystals. B crystals, N atoms, E edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crystrata.crystals.crystal import MIN_DISTANCE, Crystal, CrystalError
from crystrata.graphs.arrays import offsets
from crystrata.neighbourhood import GraphSettings

_MAX_COUNT = np.iinfo(np.uint16).max
_MAX_IMAGE = np.iinfo(np.int8).max
_ALL = np.iinfo(np.int64).max  # a rank that no neighbour has


@dataclass(frozen=True)
class Neighbourhoods:
    """Edges of crystals, sorted by centre, then by distance (CSR).

    Attributes:
        counts: Edges of each centre, (N,).
        neighbour: Position of each edge's neighbour in its crystal, (E,).
        image: Lattice translation of the neighbour, (E, 3), for coordinates wrapped into the cell.
        distance: Length of each edge, (E,) float64 [A].
        radius: Range R_i of each centre, (N,) float64 [A].
    """

    counts: np.ndarray
    neighbour: np.ndarray
    image: np.ndarray
    distance: np.ndarray
    radius: np.ndarray


def find_neighbourhoods(crystal: Crystal, settings: GraphSettings) -> Neighbourhoods:
    """Find the smooth neighbourhood of every atom of a crystal.

    Raises:
        CrystalError: Two atoms overlap, the cell is too skewed to index its images, or there are too many neighbours.
    """
    found, errors = find_all_neighbourhoods([crystal], settings)
    for error in errors.values():
        raise error
    return found


def find_all_neighbourhoods(
    crystals: Sequence[Crystal], settings: GraphSettings
) -> tuple[Neighbourhoods, dict[int, CrystalError]]:
    """Find the smooth neighbourhoods of many crystals at once.

    Returns:
        The neighbourhoods of all crystals but those in error, in order, and the errors by position.
    """
    from crystrata.graphs.search_kernels import neighbourhoods

    atoms = offsets(np.array([len(crystal) for crystal in crystals], dtype=np.int64))
    lattice = np.array([crystal.lattice for crystal in crystals], order="C").reshape(-1, 3, 3)
    frac = wrapped(np.concatenate([np.empty((0, 3)), *(crystal.frac for crystal in crystals)]))
    counts, radius, neighbour, image, distance = neighbourhoods(
        lattice, atoms, frac, settings.k, settings.delta, settings.cutoff
    )
    found = Neighbourhoods(counts, neighbour, image, distance, radius)
    errors = _errors(found, atoms)
    if errors:
        sound = np.ones(len(crystals), dtype=bool)
        sound[list(errors)] = False
        kept = np.repeat(sound, np.diff(atoms))
        edges = np.repeat(kept, counts)
        found = Neighbourhoods(counts[kept], neighbour[edges], image[edges], distance[edges], radius[kept])
    return found, errors


def _errors(found: Neighbourhoods, atoms: np.ndarray) -> dict[int, CrystalError]:
    """Return the errors by crystal; `atoms` are the first atom of each, (B + 1,)."""
    if not len(found.counts):
        return {}
    edges = offsets(found.counts)
    crowded = np.maximum(found.counts, np.repeat(np.diff(atoms), np.diff(atoms))) > _MAX_COUNT
    skewed = found.radius < 0
    if len(found.image) and np.abs(found.image).max() > _MAX_IMAGE:
        far = np.flatnonzero((np.abs(found.image) > _MAX_IMAGE).any(axis=1))
        skewed[np.searchsorted(edges, far, side="right") - 1] = True
    short = np.zeros(len(found.counts), dtype=bool)
    some = found.counts > 0
    short[some] = found.distance[edges[:-1][some]] < MIN_DISTANCE  # the first edge of a centre is its shortest
    errors = {}
    for crystal in np.unique(np.searchsorted(atoms, np.flatnonzero(crowded | skewed | short), side="right") - 1):
        own = slice(atoms[crystal], atoms[crystal + 1])
        errors[int(crystal)] = _error(short[own], skewed[own], found.distance[edges[own.start] : edges[own.stop]])
    return errors


def _error(short: np.ndarray, skewed: np.ndarray, distance: np.ndarray) -> CrystalError:
    if short.any():
        return CrystalError("overlapping", f"two atoms are {distance.min():.3f} A apart; the shortest bond is 0.74 A")
    if skewed.any():
        return CrystalError("bad_cell", "the cell is extremely skewed; reduce it (Niggli) first")
    return CrystalError("too_large", f"{len(short)} atoms, or the neighbours of one, are more than {_MAX_COUNT}")


def radius_edges(
    lattice: np.ndarray, frac: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find all pairs of atoms of a crystal that are closer than a radius.

    Args:
        lattice: Lattice vectors as rows, (3, 3) float64 [A].
        frac: Fractional coordinates, (N, 3) float64.
        radius: Length that every edge is shorter than [A].

    Returns:
        Centre (E,), neighbour (E,), image (E, 3) and distance (E,) [A], sorted by centre, then by distance; an image is
        meant for coordinates wrapped into the cell, see `wrapped`.

    Raises:
        CrystalError: The cell is too skewed to be searched.
    """
    from crystrata.graphs.search_kernels import neighbourhoods

    counts, reach, neighbour, image, distance = neighbourhoods(
        np.ascontiguousarray(lattice, dtype=np.float64)[None],
        np.array([0, len(frac)]),
        wrapped(frac),
        _ALL,
        1.0,
        radius,
    )
    if len(reach) and reach[0] < 0:
        raise CrystalError("bad_cell", "the cell is extremely skewed; reduce it (Niggli) first")
    return np.repeat(np.arange(len(frac)), counts), neighbour, image, distance


def wrapped(frac: np.ndarray) -> np.ndarray:
    """Return fractional coordinates (N, 3) moved into the cell, [0, 1), in C order."""
    moved = np.ascontiguousarray(frac - np.floor(frac), dtype=np.float64)
    moved[moved >= 1.0] = 0.0  # a tiny negative number rounds up to 1
    return moved
