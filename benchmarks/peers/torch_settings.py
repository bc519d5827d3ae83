"""The same settings of torch, and the same step, for every contestant that trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from peers.worker import Case


def as_stated(flush: bool = True) -> None:
    """One thread; denormal numbers taken for zero, unless the defaults are the point."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(flush)


def steps(
    model: nn.Module,
    predict: Callable[[Any], Tensor],
    batches: Sequence[tuple[Any, Tensor]],
    facts: dict[str, Any],
    fused: bool = True,
) -> Case:
    """Return the case of a training step per batch: forward, L1 loss, backward, AdamW.

    Args:
        model: In training mode.
        predict: Energies per atom of the crystals of a prepared batch, (B,).
        batches: Prepared batches with their labels, (B,).
        facts: What the table should say besides the number of parameters.
        fused: AdamW in its fused form.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)

    def run() -> None:
        for batch, energy in batches:
            optimizer.zero_grad(set_to_none=True)
            nn.functional.l1_loss(predict(batch), energy).backward()
            optimizer.step()

    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Case(run, sum(len(energy) for _, energy in batches), {"parameters": trained, **facts})


def tensor(array: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return an array as a tensor."""
    return torch.as_tensor(array).to(dtype)
