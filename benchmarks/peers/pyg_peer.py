"""torch_geometric: `Batch.from_data_list` of graphs in memory, with the content of Crystrata's batches."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Batch, Data

from peers.sample import Sample
from peers.torch_settings import as_stated, tensor
from peers.worker import Case


class CrystalData(Data):
    """One graph; angle pairs count edges."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Return by how much the values of a key grow per graph of a batch."""
        return self.edge_index.shape[1] if key == "pair" else super().__inc__(key, value, *args, **kwargs)

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the dimension along which a key is joined."""
        return 1 if key == "pair" else super().__cat_dim__(key, value, *args, **kwargs)


def collation(sample: Sample, angles: bool, batch: int) -> Case:
    """Batches of graphs that lie in memory as ready tensors."""
    as_stated()
    graphs = [_graph(one, angles) for one in sample.split()]
    order = np.random.default_rng(0).permutation(len(graphs))
    parts = [[graphs[row] for row in order[start : start + batch]] for start in range(0, len(order), batch)]

    def run() -> None:
        for part in parts:
            Batch.from_data_list(part)

    facts = {"edges per atom": sample.edges_per_atom, "versions": f"torch-geometric {version('torch-geometric')}",
             "remark": "graphs in memory"}  # fmt: skip
    return Case(run, len(graphs), facts)


def _graph(one: Sample, angles: bool) -> CrystalData:
    graph = CrystalData(
        z=tensor(one.numbers, torch.int64),
        edge_index=tensor(np.stack([one.neighbour, one.centre]), torch.int64),
        vector=tensor(one.vector),
        radius=tensor(one.radius),
        orientation_given=torch.tensor([True]),
        num_nodes=len(one.numbers),
    )
    if angles:
        graph.pair, graph.cosine = tensor(one.pair.T, torch.int64).contiguous(), tensor(one.cosine)
    return graph
