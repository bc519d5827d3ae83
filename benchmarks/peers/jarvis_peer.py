"""jarvis-tools: 12 nearest neighbours with whole shells, and the bond angles of the line graph.

Its graph door `Graph.atom_dgl_multigraph` needs DGL, which is not installed: its neighbour search, its undirected
edges and its angle cosines are called one by one; the pairs of edges, which DGL finds in C++, come from numpy. The
features of the elements, which it also looks up, are left out.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import torch

from peers.sample import Sample
from peers.worker import Case


def graphs(sample: Sample) -> Case:
    """k-nearest graph and line graph of a list of jarvis Atoms."""
    sys.modules.setdefault("dgl", SimpleNamespace(DGLGraph=object))  # named in annotations of the module only
    from jarvis.core.atoms import Atoms
    from jarvis.core.graphs import build_undirected_edgedata, compute_bond_cosines, nearest_neighbor_edges
    from jarvis.core.specie import atomic_numbers_to_symbols

    torch.set_num_threads(1)
    crystals = [
        Atoms(lattice_mat=one.lattice[0], coords=one.frac, elements=atomic_numbers_to_symbols(one.numbers))
        for one in sample.split()
    ]

    def one_graph(atoms: Atoms) -> tuple[int, int]:
        edges = nearest_neighbor_edges(atoms=atoms, cutoff=8.0, max_neighbors=12, use_canonize=True)
        source, target, r = build_undirected_edgedata(atoms, edges)
        first, second = _line_graph(source.numpy(), target.numpy())
        compute_bond_cosines(SimpleNamespace(src={"r": r[first]}, dst={"r": r[second]}))
        return len(r), len(first)

    def run() -> None:
        for atoms in crystals:
            one_graph(atoms)

    sizes = np.array([one_graph(atoms) for atoms in crystals]).sum(0)
    edges, angles = sizes / len(sample.numbers)
    facts = {"edges per atom": edges, "angles per atom": angles, "versions": f"jarvis-tools {version('jarvis-tools')}",
             "remark": "without DGL: line-graph pairs by numpy, no element features"}  # fmt: skip
    return Case(run, len(crystals), facts)


def _line_graph(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of edges (a -> b, b -> c)."""
    order = np.argsort(source, kind="stable")
    starts = np.searchsorted(source[order], target)
    counts = np.searchsorted(source[order], target, side="right") - starts
    first = np.repeat(np.arange(len(source)), counts)
    within = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first, order[np.repeat(starts, counts) + within]
