"""Batches for the networks, sliced out of flat graph arrays. B crystals, N atoms, E edges, T angle pairs."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from crystrata.graphs.arrays import GraphArrays


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

    Raises:
        IndexError: There is no crystal of such a position.
    """
    from crystrata.graphs.batch_kernels import cut

    numbers, crystal, atom_counts, centre, neighbour, vector, radius, pair, cosine, given = cut(
        np.ascontiguousarray(chosen, dtype=np.int64),
        graphs.atom_offsets, graphs.edge_offsets, graphs.pair_offsets, graphs.orientation_given, graphs.numbers,
        graphs.radius_words, graphs.edge_counts, graphs.angle_counts, graphs.neighbour, graphs.vector_words,
        graphs.cosine, angles,
    )  # fmt: skip
    return CrystalBatch(
        numbers=torch.from_numpy(numbers),
        crystal=torch.from_numpy(crystal),
        atom_counts=torch.from_numpy(atom_counts),
        centre=torch.from_numpy(centre),
        neighbour=torch.from_numpy(neighbour),
        vector=torch.from_numpy(vector.view(graphs.vector.dtype)),
        radius=torch.from_numpy(radius.view(graphs.radius.dtype).reshape(-1)),
        pair=torch.from_numpy(pair),
        cosine=torch.from_numpy(cosine),
        orientation_given=torch.from_numpy(given),
    )
