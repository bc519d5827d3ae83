"""What the trainer reads: crystals with their labels. B crystals, P properties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crystrata.graphs.batch import CrystalBatch


@dataclass(frozen=True)
class Components:
    """Labels of the components of a tensor, in the frame of the crystal's lattice.

    Attributes:
        values: (B, k) in physical units; anything where unknown.
        known: True where all components and their frame are known, (B,).
    """

    values: Tensor
    known: Tensor


@dataclass(frozen=True)
class LabelledBatch:
    """Crystals with their targets.

    Attributes:
        crystals: Graphs of B crystals.
        targets: Labels in physical units, (B, P); 0 where unknown.
        mask: True where the label is known, (B, P).
        step_counts: Known labels of each property in the whole optimiser step, (P,).
        share: Part of the optimiser step that this batch is.
        rows: Position of each crystal in the dataset, (B,).
        components: Labels of tensor components, by property.
    """

    crystals: CrystalBatch
    targets: Tensor
    mask: Tensor
    step_counts: Tensor
    share: float
    rows: Tensor
    components: dict[str, Components]

    def to(self, device: torch.device | str) -> LabelledBatch:
        """Return the batch on another device."""
        return self._moved(self.crystals.to(device), lambda tensor: tensor.to(device))

    def pin_memory(self) -> LabelledBatch:
        """Return the batch in page-locked memory."""
        return self._moved(self.crystals.pin_memory(), lambda tensor: tensor.pin_memory())

    def _moved(self, crystals: CrystalBatch, move: Callable[[Tensor], Tensor]) -> LabelledBatch:
        return LabelledBatch(
            crystals,
            move(self.targets),
            move(self.mask),
            move(self.step_counts),
            self.share,
            move(self.rows),
            {name: Components(move(part.values), move(part.known)) for name, part in self.components.items()},
        )
