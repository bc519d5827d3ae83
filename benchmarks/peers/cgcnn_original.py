"""CGCNN as published (Xie and Grossman, PRL 120, 145301, 2018): graphs through pymatgen, strict 12 neighbours.

Written from the paper. Every atom has exactly 12 neighbours, so edges are a dense (N, 12) table; z_ij = v_i (+) v_j (+)
u_ij is concatenated; batch norms stand before the gate and after the sum.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from peers.sample import Sample
from peers.torch_settings import Learner, as_stated, steps, tensor
from peers.worker import Case

NEIGHBOURS, CUTOFF, STEP = 12, 8.0, 0.2  # of the paper
CENTRES = np.arange(0, CUTOFF + STEP, STEP)  # 41 Gaussians


def expanded(distance: np.ndarray) -> np.ndarray:
    """Return distances (...) in the basis of Gaussians, (..., 41)."""
    return np.exp(-((distance[..., None] - CENTRES) ** 2) / STEP**2)


def graphs(sample: Sample) -> Case:
    """All neighbours within 8 A as pymatgen objects, sorted in Python, the 12 nearest expanded in Gaussians."""
    from pymatgen.core import Structure

    structures = [Structure(one.lattice[0], one.numbers.tolist(), one.frac) for one in sample.split()]

    def run() -> None:
        for structure in structures:
            neighbours, distances = [], []
            for found in structure.get_all_neighbors(CUTOFF, include_index=True):
                found = sorted(found, key=lambda one: one[1])[:NEIGHBOURS]
                missing = NEIGHBOURS - len(found)
                neighbours.append([one[2] for one in found] + [0] * missing)
                distances.append([one[1] for one in found] + [CUTOFF + 1.0] * missing)
            torch.LongTensor(np.array(neighbours))
            torch.Tensor(expanded(np.array(distances)))

    facts = {"edges per atom": NEIGHBOURS, "versions": f"pymatgen {version('pymatgen')}"}
    return Case(run, len(structures), facts)


class Convolution(nn.Module):
    """v_i <- softplus(v_i + BN(sum_j sigmoid(BN(z W_f + b_f)) * softplus(BN(z W_s + b_s))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.full = nn.Linear(2 * channels + len(CENTRES), 2 * channels)
        self.gate_norm = nn.BatchNorm1d(2 * channels)
        self.sum_norm = nn.BatchNorm1d(channels)

    def forward(self, v: Tensor, u: Tensor, neighbour: Tensor) -> Tensor:
        """Return atom features (N, C) from features (N, C), edge features (N, k, 41), neighbours (N, k)."""
        (atoms, channels), k = v.shape, neighbour.shape[1]
        own = v.unsqueeze(1).expand(atoms, k, channels)
        z = self.full(torch.cat([own, v[neighbour], u], dim=2))
        z = self.gate_norm(z.view(-1, 2 * channels)).view(atoms, k, 2 * channels)
        gate, core = z.chunk(2, dim=2)
        return functional.softplus(v + self.sum_norm((torch.sigmoid(gate) * functional.softplus(core)).sum(1)))


class CGCNN(nn.Module):
    """Element features, convolutions, mean over the atoms, one hidden layer."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(119, channels)
        self.convolutions = nn.ModuleList(Convolution(channels) for _ in range(layers))
        self.hidden = nn.Linear(channels, 128)
        self.out = nn.Linear(128, 1)

    def forward(self, numbers: Tensor, u: Tensor, neighbour: Tensor, crystal: Tensor, counts: Tensor) -> Tensor:
        """Return the energy per atom of each crystal, (B,)."""
        v = self.embedding(numbers)
        for convolution in self.convolutions:
            v = convolution(v, u, neighbour)
        mean = v.new_zeros(len(counts), v.shape[1]).index_add(0, crystal, v) / counts.unsqueeze(1)
        return self.out(functional.softplus(self.hidden(functional.softplus(mean)))).squeeze(1)


def training(
    sample: Sample, channels: int, layers: int, batch: int, defaults: bool, neighbours: int = NEIGHBOURS
) -> Case:
    """Steps of the textbook network, in torch's default settings or in those of the other rows."""
    who = learner(sample, channels, layers, neighbours)
    if defaults:
        as_stated(flush=False)
        who.facts["remark"] = "defaults: denormals kept, default allocator, AdamW not fused"
    return steps(who, sample, batch, fused=not defaults)


def learner(sample: Sample, channels: int, layers: int, neighbours: int = NEIGHBOURS) -> Learner:
    """The textbook network."""
    as_stated()
    torch.manual_seed(0)
    model = CGCNN(channels, layers)
    return Learner(
        model,
        lambda part: (_dense(part, neighbours), tensor(part.energy)),
        lambda inputs: model(*inputs),
        {"edges per atom": neighbours},
    )


def _dense(sample: Sample, neighbours: int) -> tuple[Tensor, ...]:
    """The shortest edges of each atom as dense tables; an atom with fewer gets far edges to atom 0."""
    neighbour = np.zeros((len(sample.numbers), neighbours), dtype=np.int64)
    distance = np.full(neighbour.shape, CUTOFF + 1.0)
    rank = np.arange(len(sample.neighbour)) - np.repeat(np.cumsum(sample.edge_counts) - sample.edge_counts,
                                                        sample.edge_counts)  # fmt: skip
    near = rank < neighbours
    where = sample.centre[near], rank[near]
    neighbour[where] = sample.neighbour_in_sample[near]
    distance[where] = np.linalg.norm(sample.vector[near], axis=1)
    return (
        tensor(sample.numbers, torch.int64),
        tensor(expanded(distance)),
        tensor(neighbour, torch.int64),
        tensor(sample.crystal, torch.int64),
        tensor(sample.atom_counts),
    )
