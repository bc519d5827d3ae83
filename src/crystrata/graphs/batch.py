"""Batches for the networks, sliced out of flat graph arrays. B crystals, N atoms, E edges, T angle pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from crystrata.graphs.arrays import GraphArrays, offsets, ranges


@dataclass(frozen=True)
class CrystalBatch:
    """Graphs of B crystals side by side."""

    numbers: Tensor  # atomic numbers, (N,) int64
    crystal: Tensor  # crystal of each atom, (N,) int64, ascending
    atom_counts: Tensor  # atoms of each crystal, (B,) int64
    centre: Tensor  # centre atom of each edge, (E,) int64, ascending
    neighbour: Tensor  # neighbour atom of each edge, (E,) int64
    vector: Tensor  # from centre to neighbour, (E, 3) [A]
    radius: Tensor  # range R_i of each atom, (N,) [A]
    pair: Tensor  # edge ids of each angle pair, (2, T) int64; T = 0 where angles were not asked for
    cosine: Tensor  # cosine of each angle, (T,)
    orientation_given: Tensor  # whether the crystal's frame was stated, (B,) bool
    # share of each atom in the mean over its crystal, (N,): more than one part where it stands for its copies
    share: Tensor
    # all atoms of some of the crystals, where an atom stands for its symmetric copies; None if none does, or if nobody
    # asked
    whole: WholeCrystals | None = None

    def __len__(self) -> int:
        return len(self.atom_counts)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> CrystalBatch:
        """Return the batch on another device, floating-point parts in another precision."""
        return self.moved(lambda part: part.to(device, dtype if part.is_floating_point() else None, non_blocking=True))

    def pin_memory(self) -> CrystalBatch:
        """Return the batch in page-locked memory (for fast copies to a GPU)."""
        return self.moved(lambda part: part.pin_memory())

    def moved(self, move: Callable[[Tensor], Tensor]) -> CrystalBatch:
        """Return the batch with a function applied to every tensor."""
        tensors = {field.name: move(getattr(self, field.name)) for field in fields(self) if field.name != "whole"}
        whole = self.whole and WholeCrystals(
            self.whole.batch.moved(move), move(self.whole.rows), move(self.whole.atoms)
        )
        return CrystalBatch(**tensors, whole=whole)


@dataclass(frozen=True)
class WholeCrystals:
    """All atoms of b crystals of a batch in which one atom stands for its symmetric copies."""

    batch: CrystalBatch  # graphs of the b crystals with all N' atoms
    rows: Tensor  # places of the crystals in the batch, (b,) int64
    atoms: Tensor  # for each of their atoms the one of the batch that stands for it, (N',) int64


@dataclass(frozen=True)
class BatchForm:
    """What a network reads of the graphs."""

    angles: bool = False  # the cached angles
    # one atom in place of its symmetric copies; the network must not see a difference between them
    distinct: bool = False
    whole: tuple[str, ...] = ()  # properties whose heads read all atoms nevertheless, of the crystals that have a label


ALL_ATOMS = BatchForm()
"""Graphs with all their atoms, without angles."""


def collate(
    graphs: GraphArrays,
    chosen: np.ndarray,
    *,
    angles: bool = False,
    distinct: bool = False,
    whole: np.ndarray | None = None,
) -> CrystalBatch:
    """Cut the graphs of the chosen crystals out of the flat arrays, in memory or mapped.

    Args:
        graphs: See `ARRAY_FORMS`.
        chosen: Positions of crystals, (B,), in the order of the batch; an IndexError if one is not there.
        angles: Whether to bring the cached angles along.
        distinct: Whether one atom stands for its symmetric copies.
        whole: Places in the batch whose crystals are brought with all their atoms besides; none if not given.
    """
    from crystrata.graphs.batch_kernels import cut

    chosen = np.ascontiguousarray(chosen, dtype=np.int64)
    numbers, crystal, atom_counts, centre, neighbour, vector, radius, pair, cosine, given, share, stands_for = cut(
        chosen, graphs.atom_offsets, graphs.edge_offsets, graphs.pair_offsets, graphs.orientation_given, graphs.numbers,
        graphs.radius_words, graphs.edge_counts, graphs.angle_counts, graphs.neighbour, graphs.vector_words,
        graphs.cosine, graphs.copy_of, angles, distinct,
    )  # fmt: skip
    batch = CrystalBatch(
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
        share=torch.from_numpy(share.astype(graphs.vector.dtype)),
    )
    if whole is None:
        return batch
    counts = graphs.atom_counts[chosen].astype(np.int64)
    atoms = stands_for[ranges(offsets(counts)[whole], counts[whole])]
    brought = WholeCrystals(collate(graphs, chosen[whole]), torch.from_numpy(whole), torch.from_numpy(atoms))
    return replace(batch, whole=brought)
