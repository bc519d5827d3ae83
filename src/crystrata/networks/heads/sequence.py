"""What the heads of sequences share: the steps they read, padding, modulation by the latent. B samples, L steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crystrata.datasets.task_targets import TaskTargets
from crystrata.errors import UsageError
from crystrata.networks.heads.curve import CurveHead
from crystrata.networks.task_scaling import ErrorKind, TaskTransform


class SequenceHead(CurveHead):
    """Base of the heads that read all steps of a sequence together.

    Args:
        width: d.
        d_in: The width that the configuration expects of the latent; not checked if not given.
        seq_len: L where no steps are given.
        transform: Of the labels: `identity`, `asinh` or `log1p`.
        error: `mse`, `huber` with delta 1, or `mae`.

    Raises:
        UsageError: `d_in` is not the width of the latent.
    """

    form = "padded"

    def __init__(
        self,
        width: int,
        d_in: int | None = None,
        seq_len: int | None = None,
        transform: TaskTransform = "identity",
        error: ErrorKind = "mse",
    ) -> None:
        super().__init__(width, transform, error)
        if d_in not in (None, width):
            raise UsageError(f"d_in of a sequence head must be the width of what it reads, {width}, not {d_in}")
        self.seq_len = seq_len

    def forward(self, latent: Tensor, labels: TaskTargets | None = None) -> Tensor:
        """Return standardised values, (B, L), anything in the padding; without labels on a grid of `seq_len` steps.

        Raises:
            UsageError: It is not known how long the sequence is to be.
        """
        if labels is not None:
            present = labels.present
        elif self.seq_len is not None:
            present = torch.ones(len(latent), self.seq_len, dtype=torch.bool, device=latent.device)
        else:
            raise UsageError("a sequence is predicted at steps: give those that are wanted, or set seq_len")
        given = None if labels is None else labels.t
        t = step_grid(present, latent) if given is None else self.coordinate(given).to(latent.dtype)
        return self.read(latent, t.where(present, 0.0), present)

    def read(self, latent: Tensor, t: Tensor, present: Tensor) -> Tensor:
        """Return standardised values, (B, L).

        Args:
            latent: h, (B, d).
            t: Scaled steps, (B, L); 0 in the padding.
            present: False in the padding, (B, L).
        """
        raise TypeError(f"{type(self).__name__} defines no read")


class FiLM(nn.Module):
    """Feature-wise linear modulation (Perez et al., 2018): gamma(h) o + beta(h), with gamma around 1.

    Args:
        width: d.
        channels: C.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 2 * channels)

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        """Return modulated features (B, L, C) of features (B, L, C) and latents (B, d)."""
        gamma, beta = self.modulation(latent).unsqueeze(1).chunk(2, dim=2)
        return (1 + gamma) * features + beta


def step_grid(present: Tensor, like: Tensor) -> Tensor:
    """Return k / (L - 1), (B, L), with the own length L of each sample; a single step stands at 0."""
    steps = torch.arange(present.shape[1], device=like.device, dtype=like.dtype)
    return steps / (present.sum(1, keepdim=True) - 1).clamp(min=1)
