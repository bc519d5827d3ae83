"""From crystals to flat graph arrays."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import ARRAY_FORMS, GraphArrays, derive, offsets
from crystrata.graphs.neighbours import find_all_neighbourhoods, wrapped
from crystrata.structures.crystal import Crystal, Rejected


def build_graphs(
    crystals: Iterable[tuple[int, Crystal]], settings: GraphSettings
) -> tuple[GraphArrays, list[tuple[int, Rejected]]]:
    """Build the graphs of crystals, all at once: memory grows with their atoms, by some kilobytes an atom.

    Args:
        crystals: Pairs (row in the source, crystal).
        settings: What a neighbourhood is.

    Returns:
        The arrays of all crystals that have a graph, in order, and the rejected rows with their reasons.
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
