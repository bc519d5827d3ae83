"""Between encoder and heads: the latent as it is, or bounded. B samples, d latent width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crystrata.errors import UsageError, unknown_name

STAGES = ("none", "tanh", "deposit")


class LatentStage(nn.Module):
    """h = z (`none`), tanh(z) (`tanh`) or tanh(W z + b) (`deposit`). Inverse design needs one of the bounded ones.

    Args:
        kind: `none`, `tanh` or `deposit`.
        width: d, width of the encoder's latent.
        deposit_width: Width of h with `deposit`; d if not given.

    Attributes:
        latent_width: Width of h.

    Raises:
        UsageError: The kind is unknown, or a width is given to a stage that keeps it.
    """

    def __init__(self, kind: str, width: int, deposit_width: int | None = None) -> None:
        super().__init__()
        if kind not in STAGES:
            raise unknown_name("latent stage", kind, STAGES)
        if deposit_width not in (None, width) and kind != "deposit":
            raise UsageError(f"latent stage {kind} keeps the width {width}; only deposit can make it {deposit_width}")
        self.kind = kind
        self.latent_width = deposit_width or width
        self.deposit = nn.Linear(width, self.latent_width) if kind == "deposit" else nn.Identity()

    def forward(self, z: Tensor) -> Tensor:
        """Return h (B, latent_width) of z (B, d)."""
        return z if self.kind == "none" else torch.tanh(self.deposit(z))
