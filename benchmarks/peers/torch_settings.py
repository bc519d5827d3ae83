"""The same settings of torch, and the same step, for every contestant that trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from peers.sample import Sample
from peers.worker import Case


@dataclass(frozen=True)
class Learner:
    """A peer that can be trained.

    Attributes:
        model: In training mode.
        prepare: From crystals to a batch and its labels, (B,).
        predict: Energies per atom of the crystals of a prepared batch, (B,).
        facts: What a table should say besides the number of parameters.
    """

    model: nn.Module
    prepare: Callable[[Sample], tuple[Any, Tensor]]
    predict: Callable[[Any], Tensor]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Number of weights that are trained."""
        return sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)


def as_stated(flush: bool = True) -> None:
    """One thread; denormal numbers taken for zero, unless the defaults are the point."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(flush)


def steps(learner: Learner, sample: Sample, batch: int, fused: bool = True) -> Case:
    """Return the case of a training step per batch: forward, L1 loss, backward, AdamW.

    Args:
        learner: Who learns.
        sample: The crystals.
        batch: Crystals of a batch; batches are prepared here.
        fused: AdamW in its fused form.
    """
    optimizer = torch.optim.AdamW(learner.model.parameters(), lr=1e-3, fused=fused)
    batches = [learner.prepare(part) for part in sample.batches(batch)]

    def run() -> None:
        for inputs, energy in batches:
            optimizer.zero_grad(set_to_none=True)
            nn.functional.l1_loss(learner.predict(inputs), energy).backward()
            optimizer.step()

    return Case(run, len(sample), {"parameters": learner.parameters, **learner.facts})


def tensor(array: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return an array as a tensor."""
    return torch.as_tensor(array).to(dtype)
