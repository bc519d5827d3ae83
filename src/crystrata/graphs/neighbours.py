"""Neighbour search and the smooth neighbourhood of one crystal. N atoms, E edges.

The search is pymatgen's compiled one; what is kept of it is vectorised numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crystrata.crystals.crystal import MIN_DISTANCE, Crystal, CrystalError
from crystrata.neighbourhood import GraphSettings

_FIRST_RADIUS = 5.5  # [A] holds the neighbourhoods of most crystals; the full cutoff is searched only where it does not
_MAX_IMAGE = np.iinfo(np.int8).max


@dataclass(frozen=True)
class Neighbourhoods:
    """Edges of one crystal, sorted by centre, then by distance (CSR).

    Attributes:
        counts: Edges of each centre, (N,).
        neighbour: Atom index of each edge's neighbour, (E,).
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
        CrystalError: Two atoms overlap, or the cell is too skewed to index its images.
    """
    n = len(crystal)
    frac = wrapped(crystal.frac)
    for radius in (min(_FIRST_RADIUS, settings.cutoff), settings.cutoff):
        centre, neighbour, image, distance = _search(crystal.lattice, frac, radius)
        order = np.lexsort((neighbour, distance, centre))
        centre, distance = centre[order], distance[order]
        counts = np.bincount(centre, minlength=n)
        ranges = _ranges(counts, distance, radius, settings)
        if radius >= settings.cutoff or (counts.min() >= settings.k and ranges.max() <= radius):
            break
    if len(distance) and distance.min() < MIN_DISTANCE:
        raise CrystalError("overlapping", f"two atoms are {distance.min():.3f} A apart; the shortest bond is 0.74 A")
    kept = distance < ranges[centre]
    centre, distance, order = centre[kept], distance[kept], order[kept]
    neighbour, image = neighbour[order], image[order]
    if len(image) and np.abs(image).max() > _MAX_IMAGE:
        raise CrystalError("bad_cell", "the cell is extremely skewed; reduce it (Niggli) first")
    return Neighbourhoods(np.bincount(centre, minlength=n), neighbour, image, distance, ranges)


def wrapped(frac: np.ndarray) -> np.ndarray:
    """Return fractional coordinates (N, 3) moved into the cell, [0, 1)."""
    moved = frac - np.floor(frac)
    return np.where(moved < 1.0, moved, 0.0)  # a tiny negative number rounds up to 1


def _search(
    lattice: np.ndarray, frac: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return centre (E,), neighbour (E,), image (E, 3), distance (E,) of all pairs within radius, self excluded."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    cart = np.ascontiguousarray(frac @ lattice)
    centre, neighbour, image, distance = find_points_in_spheres(
        all_coords=cart, center_coords=cart, r=float(radius), pbc=np.ones(3, dtype=np.int64),
        lattice=np.ascontiguousarray(lattice), tol=1e-8,
    )  # fmt: skip
    other = (centre != neighbour) | (distance > 1e-8)
    return centre[other], neighbour[other], np.rint(image[other]).astype(np.int64), distance[other]


def _ranges(counts: np.ndarray, distance: np.ndarray, radius: float, settings: GraphSettings) -> np.ndarray:
    """Return R_i (N,) from edges sorted by centre and distance; the cutoff where fewer than k are in reach."""
    starts = np.cumsum(counts) - counts
    ranges = np.full(len(counts), settings.cutoff)
    enough = counts >= settings.k
    ranges[enough] = (1 + settings.delta) * distance[starts[enough] + settings.k - 1]
    return np.minimum(ranges, settings.cutoff)
