"""Self-attention over tokens: pre-norm blocks on torch's fused kernel. B samples, L tokens, d width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from crystrata.errors import UsageError


class AttentionBlock(nn.Module):
    """x <- x + attention(norm(x)); x <- x + feed-forward(norm(x)).

    Args:
        width: d.
        nhead: Attention heads; must divide d.
        dim_feedforward: Hidden width of the feed-forward network; 4 d if not given.
        dropout: On attention weights and on both updates.

    Raises:
        UsageError: The heads do not divide the width.
    """

    def __init__(self, width: int, nhead: int, dim_feedforward: int | None = None, dropout: float = 0.1) -> None:
        super().__init__()
        if nhead < 1 or width % nhead:
            raise UsageError(f"d_model {width} cannot be shared by nhead {nhead}: it must be a multiple of it")
        hidden = dim_feedforward or 4 * width
        self.nhead = nhead
        self.dropout = nn.Dropout(dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width)
        self.feedforward_norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Return new tokens (B, L, d).

        Args:
            x: Tokens, (B, L, d).
            present: False for tokens that no other one may see, (B, L); a sample with none sees all, to stay finite.
        """
        batch, length, width = x.shape
        heads = self.query_key_value(self.attention_norm(x)).view(batch, length, 3, self.nhead, width // self.nhead)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B, nhead, L, d / nhead) each
        seen = None if present is None else (present | ~present.any(1, keepdim=True))[:, None, None, :]
        rate = self.dropout.p if self.training else 0.0
        attended = functional.scaled_dot_product_attention(query, key, value, seen, rate)
        x = x + self.dropout(self.attended(attended.transpose(1, 2).reshape(x.shape)))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))


def position_code(length: int, width: int, like: Tensor) -> Tensor:
    """Return the sinusoidal code of the positions 0 to L - 1, (L, d), with the device and precision of `like`."""
    half = (width + 1) // 2
    rates = torch.exp(torch.arange(half, device=like.device, dtype=like.dtype) * (-math.log(1e4) / half))
    angles = torch.arange(length, device=like.device, dtype=like.dtype).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]
