"""Running a network over many graphs: batches by size, results in input order. n crystals, P properties."""

from __future__ import annotations

import numpy as np
import torch

from crystrata.datasets.sampling import fixed_batches
from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.batch import collate
from crystrata.networks.weights import Network

_BATCH = 64
_BATCH_ATOMS = 4_000  # of large cells; the pro network takes about 0.1 MB per atom


def describe_graphs(
    network: Network, graphs: GraphArrays, rows: np.ndarray | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return predictions in physical units, (n, P) float64, and the further columns of the heads, title -> (n,).

    Both are in the order of `rows`, all graphs if not given.
    """
    rows = np.arange(len(graphs)) if rows is None else np.asarray(rows)
    device = next(network.parameters()).device
    result = np.full((len(graphs), len(network.properties)), np.nan)
    further = {title: np.full(len(graphs), np.nan) for title in network.detail_titles}
    network.eval()
    with torch.inference_mode():
        for step in fixed_batches(rows, np.asarray(graphs.atom_counts), _BATCH, _BATCH_ATOMS):
            batch = collate(graphs, step.rows, angles=network.needs_angles).to(device)
            values, details = network.describe(batch)
            result[step.rows] = torch.stack([values[name] for name in network.properties], dim=1).cpu().numpy()
            for title, column in details.items():
                further[title][step.rows] = column.cpu().numpy()
    return result[rows], {title: column[rows] for title, column in further.items()}
