"""From crystals to their smooth neighbourhoods and flat graph arrays. B crystals, N atoms, E edges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import ARRAY_FORMS, GraphArrays, derive, offsets
from crystrata.structures.crystal import MIN_DISTANCE, Crystal, CrystalError, Rejected

_MAX_COUNT = np.iinfo(np.uint16).max
_MAX_IMAGE = np.iinfo(np.int8).max


@dataclass(frozen=True)
class Neighbourhoods:
    """Edges of crystals, sorted by centre, then by distance (CSR)."""

    counts: np.ndarray  # edges of each centre, (N,)
    neighbour: np.ndarray  # position of each edge's neighbour in its crystal, (E,)
    image: np.ndarray  # lattice translation of the neighbour, (E, 3), for coordinates wrapped into the cell
    distance: np.ndarray  # length of each edge, (E,) float64 [A]
    radius: np.ndarray  # range R_i of each centre, (N,) float64 [A]


def find_all_neighbourhoods(
    crystals: Sequence[Crystal], settings: GraphSettings
) -> tuple[Neighbourhoods, dict[int, CrystalError]]:
    """Find the smooth neighbourhoods of all crystals but those in error, in order; and the errors by position."""
    found, atoms = search(crystals, settings.k, settings.delta, settings.cutoff)
    errors = _errors(found, atoms)
    if errors:
        counts = found.counts
        sound = np.ones(len(crystals), dtype=bool)
        sound[list(errors)] = False
        kept = np.repeat(sound, np.diff(atoms))
        edges = np.repeat(kept, counts)
        found = Neighbourhoods(
            counts[kept], found.neighbour[edges], found.image[edges], found.distance[edges], found.radius[kept]
        )
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


def search(crystals: Sequence[Crystal], k: int, delta: float, cutoff: float) -> tuple[Neighbourhoods, np.ndarray]:
    """Return the smooth neighbourhoods or, with k = 0, all pairs within the cutoff; and the first atom of each crystal.

    The edges are sorted by centre and, unless k = 0, by distance. Ranges of a crystal too skewed to be searched are -1.
    """
    from crystrata.graphs.search_kernels import neighbourhoods

    atoms = offsets(np.array([len(crystal) for crystal in crystals], dtype=np.int64))
    lattice = np.array([crystal.lattice for crystal in crystals], order="C").reshape(-1, 3, 3)
    frac = wrapped(np.concatenate([np.empty((0, 3)), *(crystal.frac for crystal in crystals)]))
    counts, radius, neighbour, image, distance = neighbourhoods(lattice, atoms, frac, k, delta, cutoff)
    return Neighbourhoods(counts, neighbour, image, distance, radius), atoms


def wrapped(frac: np.ndarray) -> np.ndarray:
    """Return fractional coordinates (N, 3) moved into the cell, [0, 1), in C order."""
    moved = np.ascontiguousarray(frac - np.floor(frac), dtype=np.float64)
    moved[moved >= 1.0] = 0.0  # a tiny negative number rounds up to 1
    return moved


def build_graphs(
    crystals: Iterable[tuple[int, Crystal]], settings: GraphSettings
) -> tuple[GraphArrays, list[tuple[int, Rejected]]]:
    """Build the graphs of crystals, all at once: memory grows with their atoms, by some kilobytes an atom.

    `crystals` are pairs (row in the source, crystal). Returns the arrays of all that have a graph, in order, and the
    rejected rows with their reasons.
    """
    pairs = list(crystals)
    found, errors = find_all_neighbourhoods([crystal for _, crystal in pairs], settings)
    sound = [pair for position, pair in enumerate(pairs) if position not in errors]
    rejected = [
        (pairs[position][0], Rejected(pairs[position][1].id, error.code, str(error)))
        for position, error in errors.items()
    ]
    near = offsets(found.distance < settings.angle_cutoff)[offsets(found.counts)]
    stored = {
        "source_row": [row for row, _ in sound],
        "lattice": [crystal.lattice for _, crystal in sound],
        "orientation_given": [crystal.orientation_given for _, crystal in sound],
        "atom_counts": [len(crystal) for _, crystal in sound],
        "numbers": _joined([crystal.numbers for _, crystal in sound]),
        "frac": wrapped(_joined([crystal.frac for _, crystal in sound]).reshape(-1, 3)),
        "radius": found.radius,
        "edge_counts": found.counts,
        "angle_counts": np.diff(near),
        "neighbour": found.neighbour,
        "image": found.image,
    }
    arrays = {
        name: np.ascontiguousarray(values, dtype=ARRAY_FORMS[name].dtype).reshape(-1, *ARRAY_FORMS[name].row)
        for name, values in stored.items()
    }
    return derive(arrays), rejected


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.empty(0)
