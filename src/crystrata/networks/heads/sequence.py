"""A sequence on steps: recurrent, on a fixed grid, convolutional, by attention, and convolutions before attention.

All are modulated by the latent, and none sees the padding. B materials, L steps, C channels, d latent width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crystrata.datasets.batch import Targets
from crystrata.errors import UsageError, unknown_name
from crystrata.graph_settings import GraphSettings
from crystrata.networks.heads.curve import CurveHead
from crystrata.networks.latent import Latent
from crystrata.networks.layers import AttentionBlock, Perceptron, position_code
from crystrata.networks.scaling import ErrorKind
from crystrata.tasks import Task

CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class SequenceHead(CurveHead):
    """Base of the heads that read all steps of a sequence together.

    Args:
        task: The task.
        width: d.
        graph: Not read: latents suffice.
        d_in: The width that the configuration expects of the latent; not checked if not given.
        seq_len: L where no steps are given.
        error: `mse`, `huber` with delta 1, or `mae`.

    Raises:
        UsageError: `d_in` is not the width of the latent.
    """

    form = "padded"

    def __init__(
        self, task: Task, width: int, graph: GraphSettings, *, d_in: int | None = None, seq_len: int | None = None,
        error: ErrorKind = "mse",
    ) -> None:  # fmt: skip
        super().__init__(task, width, graph, error)
        if d_in not in (None, width):
            raise UsageError(f"d_in of a sequence head must be the width of what it reads, {width}, not {d_in}")
        self.seq_len = seq_len

    def forward(self, latent: Latent, targets: Targets | None = None) -> Tensor:
        """Return standardised values, (B, L), anything in the padding; without targets on a grid of `seq_len` steps.

        Raises:
            UsageError: It is not known how long the sequence is to be.
        """
        h = latent.pooled
        if targets is not None:
            present = targets.present
        elif self.seq_len is not None:
            present = torch.ones(len(h), self.seq_len, dtype=torch.bool, device=h.device)
        else:
            raise UsageError("a sequence is predicted at steps: give those that are wanted, or set seq_len")
        given = None if targets is None else targets.t
        t = step_grid(present, h) if given is None else self.coordinate(given).to(h.dtype)
        return self.read(h, t.where(present, 0.0), present)

    def read(self, latent: Tensor, t: Tensor, present: Tensor) -> Tensor:
        """Return standardised values, (B, L).

        Args:
            latent: h, (B, d).
            t: Scaled steps, (B, L); 0 in the padding.
            present: False in the padding, (B, L).
        """
        raise TypeError(f"{type(self).__name__} defines no read")

    @classmethod
    def setting_names(cls) -> list[str]:
        """Names of the settings that the constructor takes, those of every sequence head included."""
        shared = ["d_in", "seq_len", "error", "subtype"]
        return [*(name for name in super().setting_names() if name not in (*shared, "shared")), *shared]


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


class RnnHead(SequenceHead):
    """GRU or LSTM over t, FiLM, linear. It runs forwards, so that padding at the end is never seen.

    Args:
        task, width, graph: As in `Head`.
        hidden: Width of the recurrent layers.
        cell: `gru` or `lstm`.
        num_layers: Recurrent layers.
        shared: Further settings of `SequenceHead`.

    Raises:
        UsageError: The cell is unknown, or `d_in` does not fit.
    """

    def __init__(
        self,
        task: Task,
        width: int,
        graph: GraphSettings,
        hidden: int = 64,
        cell: str = "gru",
        num_layers: int = 2,
        **shared: Any,
    ) -> None:
        super().__init__(task, width, graph, **shared)
        if cell not in CELLS:
            raise unknown_name("cell", cell, CELLS)
        self.recurrent = CELLS[cell](1, hidden, num_layers, batch_first=True)
        self.film = FiLM(width, hidden)
        self.last = nn.Linear(hidden, 1)

    def read(self, latent: Tensor, t: Tensor, present: Tensor) -> Tensor:
        """Return standardised values, (B, L); see `SequenceHead.read`."""
        features, _ = self.recurrent(t.unsqueeze(2))
        return self.last(self.film(features, latent)).squeeze(2)


class VecHead(SequenceHead):
    """Perceptron from the latent to `seq_len` values, the first L of which are the sequence.

    Args:
        task, width, graph: As in `Head`.
        seq_len: Longest sequence.
        hidden: Widths of the hidden layers.
        shared: Further settings of `SequenceHead`.
    """

    def __init__(
        self,
        task: Task,
        width: int,
        graph: GraphSettings,
        seq_len: int,
        hidden: Sequence[int] = (128,),
        **shared: Any,
    ) -> None:
        super().__init__(task, width, graph, seq_len=seq_len, **shared)
        self.layers = Perceptron([width, *hidden, seq_len])

    def read(self, latent: Tensor, t: Tensor, present: Tensor) -> Tensor:
        """Return standardised values, (B, L); see `SequenceHead.read`.

        Raises:
            UsageError: A sequence is longer than `seq_len`.
        """
        values, length = self.layers(latent), present.shape[1]
        if length > values.shape[1]:
            raise UsageError(f"a sequence of {length} steps is longer than the seq_len {values.shape[1]} of its head")
        return values[:, :length]


class DilatedConvolutions(nn.Module):
    """x <- x + GELU(conv(norm(x))), kernel 3, dilation 2^k in layer k; beyond its end a sequence is zero.

    Args:
        channels: C.
        layers: Convolutions.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(1, channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(layers))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size=3, dilation=2**k, padding=2**k) for k in range(layers)
        )

    def forward(self, t: Tensor, present: Tensor) -> Tensor:
        """Return features (B, L, C) of steps (B, L); `present` (B, L) is False in the padding."""
        x, there = self.first(t.unsqueeze(2)), present.unsqueeze(2)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            seen = norm(x).where(there, 0.0)
            x = x + functional.gelu(convolution(seen.transpose(1, 2)).transpose(1, 2))
        return x


class TcnHead(SequenceHead):
    """Convolutions over t, FiLM, linear.

    Args:
        task, width, graph: As in `Head`.
        hidden: C.
        num_layers: Convolutions.
        shared: Further settings of `SequenceHead`.
    """

    def __init__(
        self,
        task: Task,
        width: int,
        graph: GraphSettings,
        hidden: int = 64,
        num_layers: int = 4,
        **shared: Any,
    ) -> None:
        super().__init__(task, width, graph, **shared)
        self.convolutions = DilatedConvolutions(hidden, num_layers)
        self.film = FiLM(width, hidden)
        self.last = nn.Linear(hidden, 1)

    def read(self, latent: Tensor, t: Tensor, present: Tensor) -> Tensor:
        """Return standardised values, (B, L); see `SequenceHead.read`."""
        return self.last(self.film(self.convolutions(t, present), latent)).squeeze(2)


class AttentionReadout(nn.Module):
    """Attention blocks over tokens, then one number of each.

    Args:
        d_model: C, a multiple of `nhead`.
        nhead: Attention heads.
        layers: Attention blocks.
        dim_feedforward: Hidden width of the blocks; 4 C if not given.
        dropout: In the blocks.
    """

    def __init__(self, d_model: int, nhead: int, layers: int, dim_feedforward: int | None, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(AttentionBlock(d_model, nhead, dim_feedforward, dropout) for _ in range(layers))
        self.last = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, 1))

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Return numbers (B, L) of tokens (B, L, C); `present` (B, L) is False in the padding."""
        for block in self.blocks:
            tokens = block(tokens, present)
        return self.last(tokens).squeeze(2)


class TransformerHead(SequenceHead):
    """Token 0 is made of the latent, tokens 1 to L of the steps, each kind by its own projection; token 0 is dropped.

    Args:
        task, width, graph: As in `Head`.
        d_model: C, a multiple of `nhead`.
        nhead: Attention heads.
        num_encoder_layers: Attention blocks.
        dim_feedforward: Hidden width of the blocks; 4 C if not given.
        dropout: In the blocks.
        shared: Further settings of `SequenceHead`.

    Raises:
        UsageError: The heads do not divide C, or `d_in` does not fit.
    """

    def __init__(
        self,
        task: Task,
        width: int,
        graph: GraphSettings,
        d_model: int = 64,
        nhead: int = 4,
        num_encoder_layers: int = 2,
        dim_feedforward: int | None = None,
        dropout: float = 0.1,
        **shared: Any,
    ) -> None:
        super().__init__(task, width, graph, **shared)
        self.latent_token = nn.Linear(width, d_model)
        self.step_token = nn.Linear(1, d_model)
        self.attention = AttentionReadout(d_model, nhead, num_encoder_layers, dim_feedforward, dropout)

    def read(self, latent: Tensor, t: Tensor, present: Tensor) -> Tensor:
        """Return standardised values, (B, L); see `SequenceHead.read`."""
        steps = self.step_token(t.unsqueeze(2))
        steps = steps + position_code(steps.shape[1], steps.shape[2], steps)
        tokens = torch.cat([self.latent_token(latent).unsqueeze(1), steps], dim=1)  # (B, 1 + L, C)
        seen = torch.cat([present.new_ones(len(present), 1), present], dim=1)
        return self.attention(tokens, seen)[:, 1:]


class HybridHead(SequenceHead):
    """Convolutions over t, FiLM, attention blocks, linear.

    Args:
        task, width, graph: As in `Head`.
        d_model: C, a multiple of `nhead`.
        nhead: Attention heads.
        num_layers: Convolutions.
        num_encoder_layers: Attention blocks.
        dim_feedforward: Hidden width of the blocks; 4 C if not given.
        dropout: In the blocks.
        shared: Further settings of `SequenceHead`.

    Raises:
        UsageError: The heads do not divide C, or `d_in` does not fit.
    """

    def __init__(
        self,
        task: Task,
        width: int,
        graph: GraphSettings,
        d_model: int = 64,
        nhead: int = 4,
        num_layers: int = 4,
        num_encoder_layers: int = 2,
        dim_feedforward: int | None = None,
        dropout: float = 0.1,
        **shared: Any,
    ) -> None:
        super().__init__(task, width, graph, **shared)
        self.convolutions = DilatedConvolutions(d_model, num_layers)
        self.film = FiLM(width, d_model)
        self.attention = AttentionReadout(d_model, nhead, num_encoder_layers, dim_feedforward, dropout)

    def read(self, latent: Tensor, t: Tensor, present: Tensor) -> Tensor:
        """Return standardised values, (B, L); see `SequenceHead.read`."""
        return self.attention(self.film(self.convolutions(t, present), latent), present)


def step_grid(present: Tensor, like: Tensor) -> Tensor:
    """Return k / (L - 1), (B, L), with the own length L of each sample; a single step stands at 0."""
    steps = torch.arange(present.shape[1], device=like.device, dtype=like.dtype)
    return steps / (present.sum(1, keepdim=True) - 1).clamp(min=1)
