"""Running a network over many graphs: batches by size, results in input order. n crystals, P properties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from crystrata.datasets.sampling import fixed_batches
from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.batch import collate
from crystrata.networks.multitask import MultiTaskNetwork

_BATCH = 64


def predict_graphs(
    network: MultiTaskNetwork,
    graphs: GraphArrays,
    rows: np.ndarray | None = None,
    *,
    batch_size: int = _BATCH,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Return predictions in physical units, (n, P) float64, in the order of `rows` (all graphs if not given)."""
    rows = np.arange(len(graphs)) if rows is None else np.asarray(rows)
    device = next(network.parameters()).device
    result = np.full((len(graphs), len(network.config.properties)), np.nan)
    done = 0
    network.eval()
    with torch.inference_mode():
        for key in fixed_batches(rows, np.asarray(graphs.atom_counts), batch_size):
            batch = collate(graphs, key.rows, angles=network.encoder.needs_angles).to(device)
            values = network(batch)
            result[key.rows] = torch.stack([values[name] for name in network.config.properties], dim=1).cpu().numpy()
            done += len(key.rows)
            if progress:
                progress(done, len(rows))
    return result[rows]
