"""Labels of one task for a batch: numbers, classes, vectors, curves. B samples, k components, M points, L steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TaskTargets:
    """What the head of a task learns from; for curves and sequences also where it is asked.

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
    """

    values: Tensor
    known: Tensor
    t: Tensor | None = None
    lengths: Tensor | None = None

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

    def padded(self) -> TaskTargets:
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
        return TaskTargets(values, known, t, self.lengths)

    def rows(self, index: Tensor) -> TaskTargets:
        """Return the targets of some samples, positions (n,), in that order."""
        lengths = None if self.lengths is None else self.lengths[index]
        if not self.is_ragged or self.lengths is None or lengths is None:
            return TaskTargets(
                self.values[index], self.known[index], None if self.t is None else self.t[index], lengths
            )
        first = self.lengths.cumsum(0) - self.lengths
        points = torch.arange(int(lengths.sum()), device=index.device)
        points = points + torch.repeat_interleave(first[index] - (lengths.cumsum(0) - lengths), lengths)
        return TaskTargets(self.values[points], self.known[points], None if self.t is None else self.t[points], lengths)

    def to(self, device: torch.device | str) -> TaskTargets:
        """Return the targets on another device."""
        return self.moved(lambda tensor: tensor.to(device))

    def pin_memory(self) -> TaskTargets:
        """Return the targets in page-locked memory."""
        return self.moved(lambda tensor: tensor.pin_memory())

    def moved(self, move: Callable[[Tensor], Tensor]) -> TaskTargets:
        """Return the targets with a function applied to every tensor."""
        return TaskTargets(
            move(self.values),
            move(self.known),
            None if self.t is None else move(self.t),
            None if self.lengths is None else move(self.lengths),
        )
