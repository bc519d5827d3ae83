"""Graphs whose geometry is float64 throughout, to tell a true symmetry from one that holds to rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.neighbours import Neighbourhoods, build_graphs, find_all_neighbourhoods
from crystrata.structures.crystal import Crystal


def graphs_of(crystals: Sequence[Crystal], settings: GraphSettings) -> GraphArrays:
    """Return the graphs as training and prediction have them, vectors and radii in float32.

    Raises:
        ValueError: A crystal has no graph.
    """
    graphs, rejected = build_graphs(enumerate(crystals), settings)
    if rejected:
        raise ValueError(f"no graph: {rejected}")
    return graphs


def find_neighbourhoods(crystal: Crystal, settings: GraphSettings) -> Neighbourhoods:
    """Return the smooth neighbourhood of every atom of a crystal; its error is raised."""
    found, errors = find_all_neighbourhoods([crystal], settings)
    for error in errors.values():
        raise error
    return found


def exact_graphs(graphs: GraphArrays, crystals: Sequence[Crystal], settings: GraphSettings) -> GraphArrays:
    """Return the same graphs with vectors and radii in float64, computed from the crystals without rounding."""
    atom_crystal = np.repeat(np.arange(len(graphs)), graphs.atom_counts)
    centre = np.repeat(np.arange(len(atom_crystal)), graphs.edge_counts)
    neighbour = graphs.neighbour + graphs.atom_offsets[atom_crystal[centre]]
    frac = graphs.frac[neighbour] + graphs.image - graphs.frac[centre]
    vector = np.einsum("ei,eij->ej", frac, graphs.lattice[atom_crystal[centre]])
    radius = np.concatenate([find_neighbourhoods(one, settings).radius for one in crystals])
    return replace(graphs, vector=vector, radius=radius)
