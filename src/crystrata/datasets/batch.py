"""What the trainer reads: a batch of materials with the labels of every task.

B materials, k components, M points of all curves in one row, L steps, D descriptor width, G crystals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crystrata.graphs.batch import CrystalBatch


@dataclass(frozen=True)
class Targets:
    """Labels of one task for a batch; for curves and sequences also where the head is asked.

    ========  ===========  =========================================================
    form      values       besides
    ========  ===========  =========================================================
    fixed     (B,), (B, k) nothing: numbers, class indices or vectors
    ragged    (M,)         `lengths`, `t` (M,): the points of all curves in one row
    padded    (B, L)       `lengths`, `t` (B, L) or none: a sequence fills the front
    ========  ===========  =========================================================

    Attributes:
        values: Labels in physical units or class indices; anything where unknown.
        known: True where the label is known, of the shape of `values`.
        t: Coordinate of each point, in its unit, finite; anything in the padding. None: a sequence without steps.
        lengths: Points of each sample, (B,), integers; None in the fixed form.
        components: Labels of the components of a tensor in the frame of the crystal's lattice, values (B, k) and known
            (B,); None where the task has none.
    """

    values: Tensor
    known: Tensor
    t: Tensor | None = None
    lengths: Tensor | None = None
    components: Targets | None = None

    def __len__(self) -> int:
        """Return B."""
        return len(self.values if self.lengths is None else self.lengths)

    @property
    def is_ragged(self) -> bool:
        """Whether the points of all curves stand in one row."""
        return self.lengths is not None and self.values.ndim == 1

    @property
    def sample(self) -> Tensor:
        """Position in the batch of the sample that each point of the ragged form belongs to, (M,)."""
        if self.lengths is None:
            raise TypeError("only curves have points")
        rows = torch.arange(len(self.lengths), device=self.values.device)
        return torch.repeat_interleave(rows, self.lengths, output_size=len(self.values))

    @property
    def present(self) -> Tensor:
        """True where the padded form holds a point, known or not, (B, L)."""
        if self.lengths is None:
            raise TypeError("only sequences have padding")
        return torch.arange(self.values.shape[1], device=self.values.device) < self.lengths.unsqueeze(1)

    def known_points(self) -> Tensor:
        """Return how many labels each sample has, (B,), integers."""
        if self.is_ragged:
            return torch.zeros(len(self), dtype=torch.long, device=self.known.device).index_add(
                0, self.sample, self.known.long()
            )
        return self.known.reshape(len(self), -1).sum(1)

    def padded(self) -> Targets:
        """Return the padded form of ragged targets; L is at least 1."""
        if self.lengths is None or not self.is_ragged:
            return self
        longest = max(1, int(self.lengths.max())) if len(self) else 1
        place = torch.arange(longest, device=self.values.device) < self.lengths.unsqueeze(1)
        known, values = torch.zeros_like(place), self.values.new_zeros(place.shape)
        known[place], values[place] = self.known, self.values
        t = None
        if self.t is not None:
            t = self.t.new_zeros(place.shape)
            t[place] = self.t
        return Targets(values, known, t, self.lengths)

    def to(self, device: torch.device | str) -> Targets:
        """Return the targets on another device."""
        return self.moved(lambda tensor: tensor.to(device))

    def pin_memory(self) -> Targets:
        """Return the targets in page-locked memory."""
        return self.moved(lambda tensor: tensor.pin_memory())

    def moved(self, move: Callable[[Tensor], Tensor]) -> Targets:
        """Return the targets with a function applied to every tensor."""
        return Targets(
            move(self.values),
            move(self.known),
            None if self.t is None else move(self.t),
            None if self.lengths is None else move(self.lengths),
            None if self.components is None else self.components.moved(move),
        )


@dataclass(frozen=True)
class Batch:
    """Materials with their labels: a micro-batch of an optimizer step.

    Attributes:
        rows: Position of each material in the dataset, (B,).
        targets: Task -> labels, nothing known where a material has none.
        share: Part of the optimizer step that this batch is.
        crystals: Graphs of the G materials that have a crystal; None where nothing reads them or none has one.
        crystal_rows: Positions of these materials in the batch, (G,), ascending; None where all have a crystal.
        descriptor: Of the compositions, (B, D), NaN where unknown; None where nothing reads it.
    """

    rows: Tensor
    targets: dict[str, Targets]
    share: float = 1.0
    crystals: CrystalBatch | None = None
    crystal_rows: Tensor | None = None
    descriptor: Tensor | None = None

    def __len__(self) -> int:
        """Return B."""
        return len(self.rows)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        return self.moved(lambda tensor: tensor.to(device))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory."""
        return self.moved(lambda tensor: tensor.pin_memory())

    def moved(self, move: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with a function applied to every tensor."""
        return Batch(
            move(self.rows),
            {name: targets.moved(move) for name, targets in self.targets.items()},
            self.share,
            None if self.crystals is None else self.crystals.moved(move),
            None if self.crystal_rows is None else move(self.crystal_rows),
            None if self.descriptor is None else move(self.descriptor),
        )
