"""What the trainer reads of compositions: descriptors with labels. B compositions, D descriptor width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crystrata.datasets.task_targets import TaskTargets
from crystrata.graphs.batch import CrystalBatch


@dataclass(frozen=True)
class CompositionBatch:
    """Compositions with their labels.

    Attributes:
        descriptor: (B, D), NaN where unknown.
        labels: Task -> labels; a task is missing where a step has nothing for it.
        share: Part of the optimiser step that this batch is.
        rows: Position of each composition in the dataset, (B,).
        crystals: Graphs of the G compositions that have one; None where none has.
        graph_rows: Positions of these compositions in the batch, (G,), ascending.
    """

    descriptor: Tensor
    labels: dict[str, TaskTargets]
    share: float
    rows: Tensor
    crystals: CrystalBatch | None
    graph_rows: Tensor

    def to(self, device: torch.device | str) -> CompositionBatch:
        """Return the batch on another device."""
        return self.moved(lambda part: part.to(device))

    def pin_memory(self) -> CompositionBatch:
        """Return the batch in page-locked memory."""
        return self.moved(lambda part: part.pin_memory())

    def moved(self, move: Callable[[Tensor], Tensor]) -> CompositionBatch:
        """Return the batch with a function applied to every tensor."""
        return CompositionBatch(
            move(self.descriptor),
            {name: labels.moved(move) for name, labels in self.labels.items()},
            self.share,
            move(self.rows),
            None if self.crystals is None else self.crystals.moved(move),
            move(self.graph_rows),
        )
