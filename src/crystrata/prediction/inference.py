"""Running a network over many graphs: batches by size, results in input order.

n crystals, P properties, d latent width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from crystrata.datasets.sampling import fixed_batches
from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.batch import collate
from crystrata.networks.weights import Network

_BATCH = 64
_BATCH_ATOMS = 4_000  # of large cells; the pro network takes about 0.1 MB per atom


class Described(NamedTuple):
    """What a network says about n crystals.

    Attributes:
        values: Predictions in physical units, (n, P) float64.
        details: Further columns of the heads, title -> (n,).
        latents: Of the crystals, (n, d) float32.
    """

    values: np.ndarray
    details: dict[str, np.ndarray]
    latents: np.ndarray


def describe_graphs(network: Network, graphs: GraphArrays, rows: np.ndarray | None = None) -> Described:
    """Return what a network says about some crystals, in the order of `rows`; about all graphs if not given."""
    rows = np.arange(len(graphs)) if rows is None else np.asarray(rows)
    device = next(network.parameters()).device
    result = np.full((len(graphs), len(network.properties)), np.nan)
    latents = np.full((len(graphs), network.latent_width), np.nan, dtype=np.float32)
    further = {title: np.full(len(graphs), np.nan) for title in network.detail_titles}
    network.eval()
    with torch.inference_mode():
        for step in fixed_batches(rows, np.asarray(graphs.atom_counts), _BATCH, _BATCH_ATOMS):
            batch = collate(graphs, step.rows, angles=network.needs_angles).to(device)
            values, details, latent = network.describe(batch)
            result[step.rows] = torch.stack([values[name] for name in network.properties], dim=1).cpu().numpy()
            latents[step.rows] = latent.cpu().numpy()
            for title, column in details.items():
                further[title][step.rows] = column.cpu().numpy()
    return Described(result[rows], {title: column[rows] for title, column in further.items()}, latents[rows])
