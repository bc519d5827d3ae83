"""Sequences by attention: over the steps and the latent, or after convolutions. B samples, L steps, C width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crystrata.networks.attention import AttentionBlock, position_code
from crystrata.networks.heads.sequence import FiLM, SequenceHead
from crystrata.networks.heads.sequence_tcn import DilatedConvolutions
from crystrata.networks.task_scaling import ErrorKind, TaskTransform


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
        width: d.
        d_model: C, a multiple of `nhead`.
        nhead: Attention heads.
        num_encoder_layers: Attention blocks.
        dim_feedforward: Hidden width of the blocks; 4 C if not given.
        dropout: In the blocks.
        d_in, seq_len, transform, error: As in `SequenceHead`.

    Raises:
        UsageError: The heads do not divide C, or `d_in` does not fit.
    """

    def __init__(
        self,
        width: int,
        d_model: int = 64,
        nhead: int = 4,
        num_encoder_layers: int = 2,
        dim_feedforward: int | None = None,
        dropout: float = 0.1,
        d_in: int | None = None,
        seq_len: int | None = None,
        transform: TaskTransform = "identity",
        error: ErrorKind = "mse",
    ) -> None:
        super().__init__(width, d_in, seq_len, transform, error)
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
        width: d.
        d_model: C, a multiple of `nhead`.
        nhead: Attention heads.
        num_layers: Convolutions.
        num_encoder_layers: Attention blocks.
        dim_feedforward: Hidden width of the blocks; 4 C if not given.
        dropout: In the blocks.
        d_in, seq_len, transform, error: As in `SequenceHead`.

    Raises:
        UsageError: The heads do not divide C, or `d_in` does not fit.
    """

    def __init__(
        self,
        width: int,
        d_model: int = 64,
        nhead: int = 4,
        num_layers: int = 4,
        num_encoder_layers: int = 2,
        dim_feedforward: int | None = None,
        dropout: float = 0.1,
        d_in: int | None = None,
        seq_len: int | None = None,
        transform: TaskTransform = "identity",
        error: ErrorKind = "mse",
    ) -> None:
        super().__init__(width, d_in, seq_len, transform, error)
        self.convolutions = DilatedConvolutions(d_model, num_layers)
        self.film = FiLM(width, d_model)
        self.attention = AttentionReadout(d_model, nhead, num_encoder_layers, dim_feedforward, dropout)

    def read(self, latent: Tensor, t: Tensor, present: Tensor) -> Tensor:
        """Return standardised values, (B, L); see `SequenceHead.read`."""
        return self.attention(self.film(self.convolutions(t, present), latent), present)
