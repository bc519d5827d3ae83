"""MACE (Batatia et al., 2022), energy alone, on Crystrata's edges.

MACE asks for gradients by the positions even where no forces are wanted; the edge vectors are detached here, which
spares it that work.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from mace.modules import ScaleShiftMACE, interaction_classes, models

from peers.sample import Sample
from peers.torch_settings import Learner, as_stated, steps, tensor
from peers.worker import Case


def training(sample: Sample, channels: int, l_max: int, batch: int) -> Case:
    """Steps of MACE."""
    return steps(learner(sample, channels, l_max), sample, batch)


def learner(sample: Sample, channels: int, l_max: int) -> Learner:
    """MACE with two interactions of correlation order 3 and scalar messages."""
    as_stated()
    torch.manual_seed(0)
    original = models.prepare_graph

    def without_forces(data: dict[str, Any], **flags: Any) -> Any:
        graph = original(data, **flags)
        return graph._replace(vectors=graph.vectors.detach(), lengths=graph.lengths.detach())

    models.prepare_graph = without_forces
    elements = np.unique(sample.numbers)
    model = ScaleShiftMACE(
        r_max=8.0, num_bessel=8, num_polynomial_cutoff=5, max_ell=l_max, num_interactions=2, correlation=3,
        interaction_cls=interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=interaction_classes["RealAgnosticInteractionBlock"],
        num_elements=len(elements), hidden_irreps=models.o3.Irreps(f"{channels}x0e"),
        MLP_irreps=models.o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(elements)), avg_num_neighbors=sample.edges_per_atom,
        atomic_numbers=elements.tolist(), gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0, atomic_inter_shift=0.0,
    )  # fmt: skip
    facts = {"edges per atom": sample.edges_per_atom, "versions": f"mace-torch {version('mace-torch')}"}

    def predict(inputs: tuple[dict[str, Any], torch.Tensor]) -> torch.Tensor:
        data, counts = inputs
        return model(dict(data), training=True, compute_force=False)["energy"] / counts

    return Learner(model, lambda part: (_batch(part, elements), tensor(part.energy)), predict, facts)


def _batch(sample: Sample, elements: np.ndarray) -> tuple[dict[str, Any], torch.Tensor]:
    kinds = tensor(np.searchsorted(elements, sample.numbers), torch.int64)
    ends = np.concatenate([[0], np.cumsum(sample.atom_counts)])
    data = {
        "positions": tensor(sample.positions),
        "node_attrs": torch.nn.functional.one_hot(kinds, len(elements)).float(),
        "edge_index": tensor(np.stack([sample.neighbour_in_sample, sample.centre]), torch.int64),
        "shifts": tensor(-sample.shift),
        "unit_shifts": tensor(-sample.image),
        "cell": tensor(sample.lattice.reshape(-1, 3)),
        "batch": tensor(sample.crystal, torch.int64),
        "ptr": tensor(ends, torch.int64),
        "head": torch.zeros(len(sample), dtype=torch.int64),
    }
    return data, tensor(sample.atom_counts)
