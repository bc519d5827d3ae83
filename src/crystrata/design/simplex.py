"""From logits to compositions under constraints: differentiable during the search, exact at the end.

B compositions, n elements, at most K elements in a composition.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crystrata.design.constraints import Constraints

LAST_TEMPERATURE, _LEAST_TEMPERATURE = 0.01, 1e-3
_FIRST_BASE = 25.0
_TINY = 1e-12


def temperature(progress: float, annealing_scale: float) -> float:
    """Return the softness of the choice of elements, which falls geometrically from 25^scale to 0.01.

    Args:
        progress: From 0 at the first step to 1 at the last one.
        annealing_scale: 0 starts at 1, 1 at 25.
    """
    first = _FIRST_BASE**annealing_scale
    return max(first * (LAST_TEMPERATURE / first) ** progress, _LEAST_TEMPERATURE)


def soft_k_hot(logits: Tensor, count: int, tau: float, chosen: Tensor | None = None) -> Tensor:
    """Return a soft choice of `count` entries by iterated softmax, (B, n) in [0, 1].

    Each round gives one unit to the highest entries and removes it from the next round. Near ties share their rounds.

    Args:
        logits: (B, n), -inf for entries that cannot be chosen.
        count: Number of entries to choose.
        tau: Temperature: near 0 the choice is hard.
        chosen: Entries chosen in advance, (n,) bool; they are part of the count.
    """
    mask, left = torch.zeros_like(logits), logits
    if chosen is not None:
        mask = mask.masked_fill(chosen, 1.0)
        left, count = left.masked_fill(chosen, -torch.inf), count - int(chosen.sum())
    for _ in range(count):
        share = torch.softmax(left / tau, dim=1)
        mask = mask + share
        left = left + torch.log((1 - share).clamp(min=_TINY))
    return mask.clamp(max=1.0)


class Simplex:
    """Maps logits to atomic fractions under constraints.

    Args:
        constraints: Constraints on the compositions.
        locked_amounts: Amounts of the fixed and frozen elements, (B, n).
        device: Device of the compositions.
    """

    def __init__(self, constraints: Constraints, locked_amounts: np.ndarray, device: torch.device) -> None:
        self.allowed = torch.as_tensor(constraints.allowed, device=device)
        self.locked = torch.as_tensor(constraints.locked, device=device)
        self.amounts = torch.as_tensor(locked_amounts, dtype=torch.get_default_dtype(), device=device)
        self.free_mass = 1 - self.amounts.sum(1, keepdim=True)
        self.floor = constraints.min_nonzero_weight
        most = constraints.max_elements
        self.count = None if most is None or most >= int(self.allowed.sum()) else most

    def compositions(self, logits: Tensor, tau: float) -> Tensor:
        """Return fractions (B, n) of logits (B, n), differentiable; at most K of them are far from 0 as tau falls."""
        logits = logits.masked_fill(~self.allowed, -torch.inf)
        weights = torch.softmax(logits, dim=1)
        if self.count is not None:
            weights = weights * soft_k_hot(logits, self.count, tau, self.locked)
        weights = self._with_locks(weights)
        if not self.floor:
            return weights
        return weights + (self._floored(weights) - weights).detach()  # straight through: the gradient ignores the floor

    @torch.no_grad()
    def final(self, logits: Tensor) -> Tensor:
        """Return fractions (B, n) that satisfy every constraint exactly."""
        weights = self.compositions(logits, LAST_TEMPERATURE).masked_fill(self.locked | ~self.allowed, 0.0)
        if self.count is not None:
            best = weights.topk(self.count - int(self.locked.sum()), dim=1).indices
            weights = weights * torch.zeros_like(weights).scatter(1, best, 1.0)
        weights = self._with_locks(weights)
        small = self._too_small(weights)
        none_left = ((weights > 0) & ~small & ~self.locked).sum(1) == 0
        largest = weights.masked_fill(self.locked, -1.0).argmax(1, keepdim=True)
        small &= ~(none_left[:, None] & torch.zeros_like(small).scatter(1, largest, True))
        return self._with_locks(weights.masked_fill(small, 0.0))

    def _with_locks(self, weights: Tensor) -> Tensor:
        """Give locked elements their amounts, and share the rest among the others in proportion."""
        free = weights.masked_fill(self.locked, 0.0)
        return free / free.sum(1, keepdim=True).clamp(min=_TINY) * self.free_mass + self.amounts

    def _too_small(self, weights: Tensor) -> Tensor:
        return (weights > 0) & (weights < self.floor) & ~self.locked

    def _floored(self, weights: Tensor) -> Tensor:
        """Remove unlocked elements below the floor; a row that would lose all of them stays as it is."""
        small = self._too_small(weights)
        remaining = ((weights > 0) & ~small & ~self.locked).any(1, keepdim=True)
        return self._with_locks(weights.masked_fill(small & remaining, 0.0))
