"""Batches for the networks, sliced out of flat graph arrays. B crystals, N atoms, E edges, T angle pairs."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from crystrata.graphs.arrays import COSINE_SCALE, GraphArrays, angle_pairs, offsets, ranges


@dataclass(frozen=True)
class CrystalBatch:
    """Graphs of B crystals side by side.

    Attributes:
        numbers: Atomic numbers, (N,) int64.
        crystal: Crystal of each atom, (N,) int64, ascending.
        atom_counts: Atoms of each crystal, (B,) int64.
        centre: Centre atom of each edge, (E,) int64, ascending.
        neighbour: Neighbour atom of each edge, (E,) int64.
        vector: From centre to neighbour, (E, 3) [A].
        radius: Range R_i of each atom, (N,) [A].
        pair: Edge ids of each angle pair, (2, T) int64; T = 0 where angles were not asked for.
        cosine: Cosine of each angle, (T,).
        orientation_given: Whether the crystal's frame was stated, (B,) bool.
    """

    numbers: Tensor
    crystal: Tensor
    atom_counts: Tensor
    centre: Tensor
    neighbour: Tensor
    vector: Tensor
    radius: Tensor
    pair: Tensor
    cosine: Tensor
    orientation_given: Tensor

    def __len__(self) -> int:
        return len(self.atom_counts)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> CrystalBatch:
        """Return the batch on another device, floating-point parts in another precision."""
        moved = {}
        for field in fields(self):
            tensor = getattr(self, field.name)
            moved[field.name] = tensor.to(device, dtype if tensor.is_floating_point() else None, non_blocking=True)
        return CrystalBatch(**moved)

    def pin_memory(self) -> CrystalBatch:
        """Return the batch in page-locked memory (for fast copies to a GPU)."""
        return CrystalBatch(**{field.name: getattr(self, field.name).pin_memory() for field in fields(self)})


def collate(graphs: GraphArrays, chosen: np.ndarray, *, angles: bool = False) -> CrystalBatch:
    """Cut the graphs of the chosen crystals out of the flat arrays.

    Args:
        graphs: Arrays in memory or mapped.
        chosen: Positions of crystals, (B,), in the order of the batch.
        angles: Whether to bring the cached angles along.
    """
    chosen = np.asarray(chosen, dtype=np.int64)
    atom_counts = graphs.atom_counts[chosen].astype(np.int64)
    atoms = ranges(graphs.atom_offsets[chosen], atom_counts)
    batch_atom_offsets = offsets(atom_counts)
    edges_per_crystal = graphs.edge_offsets[chosen + 1] - graphs.edge_offsets[chosen]
    edges = ranges(graphs.edge_offsets[chosen], edges_per_crystal)
    edge_counts = graphs.edge_counts[atoms].astype(np.int64)
    pair = np.zeros((2, 0), dtype=np.int64)
    cosine = np.zeros(0, dtype=np.float32)
    if angles:
        pair = np.stack(angle_pairs(edge_counts, graphs.angle_counts[atoms]))
        pairs_per_crystal = graphs.pair_offsets[chosen + 1] - graphs.pair_offsets[chosen]
        cosine = graphs.cosine[ranges(graphs.pair_offsets[chosen], pairs_per_crystal)].astype(np.float32) / COSINE_SCALE
    return CrystalBatch(
        numbers=torch.from_numpy(graphs.numbers[atoms].astype(np.int64)),
        crystal=torch.from_numpy(np.repeat(np.arange(len(chosen)), atom_counts)),
        atom_counts=torch.from_numpy(atom_counts),
        centre=torch.from_numpy(np.repeat(np.arange(len(atoms)), edge_counts)),
        neighbour=torch.from_numpy(
            graphs.neighbour[edges].astype(np.int64) + np.repeat(batch_atom_offsets[:-1], edges_per_crystal)
        ),
        vector=torch.from_numpy(np.ascontiguousarray(graphs.vector[edges])),
        radius=torch.from_numpy(np.ascontiguousarray(graphs.radius[atoms])),
        pair=torch.from_numpy(pair),
        cosine=torch.from_numpy(cosine),
        orientation_given=torch.from_numpy(graphs.orientation_given[chosen]),
    )
