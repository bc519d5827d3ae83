"""From crystals to flat graph arrays: one crystal after the other, joined once per chunk."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from crystrata.crystals.crystal import Crystal, CrystalError, Rejected
from crystrata.graphs.arrays import ARRAY_FORMS, STORED_ARRAYS, GraphArrays, derive
from crystrata.graphs.neighbours import find_neighbourhoods, wrapped
from crystrata.neighbourhood import GraphSettings


def build_graphs(
    crystals: Iterable[tuple[int, Crystal]], settings: GraphSettings
) -> tuple[GraphArrays, list[tuple[int, Rejected]]]:
    """Build the graphs of crystals.

    Args:
        crystals: Pairs (row in the source, crystal).
        settings: What a neighbourhood is.

    Returns:
        The arrays of all crystals that have a graph, in order, and the rejected rows with their reasons.
    """
    parts: list[dict[str, np.ndarray]] = []
    rejected: list[tuple[int, Rejected]] = []
    for row, crystal in crystals:
        try:
            parts.append(_arrays_of_one(row, crystal, settings))
        except CrystalError as error:
            rejected.append((row, Rejected(crystal.id, error.code, str(error))))
    return join(parts), rejected


def join(parts: list[dict[str, np.ndarray]]) -> GraphArrays:
    """Join the stored arrays of single crystals and derive vectors and angles, vectorised over all of them."""
    stored = {}
    for name in STORED_ARRAYS:
        form = ARRAY_FORMS[name]
        joined = np.concatenate([part[name] for part in parts]) if parts else np.zeros((0, *form.row))
        stored[name] = joined.astype(form.dtype, copy=False)
    return derive(stored)


def _arrays_of_one(row: int, crystal: Crystal, settings: GraphSettings) -> dict[str, np.ndarray]:
    found = find_neighbourhoods(crystal, settings)
    if found.counts.max() > np.iinfo(np.uint16).max or len(crystal) > np.iinfo(np.uint16).max:
        raise CrystalError("too_large", f"{len(crystal)} atoms or {found.counts.max()} neighbours are too many")
    centre = np.repeat(np.arange(len(crystal)), found.counts)
    near = np.bincount(centre[found.distance < settings.angle_cutoff], minlength=len(crystal))
    return {
        "source_row": np.array([row]),
        "lattice": crystal.lattice[None],
        "orientation_given": np.array([crystal.orientation_given]),
        "atom_counts": np.array([len(crystal)]),
        "numbers": crystal.numbers,
        "frac": wrapped(crystal.frac),
        "radius": found.radius,
        "edge_counts": found.counts,
        "angle_counts": near,
        "neighbour": found.neighbour,
        "image": found.image,
    }
