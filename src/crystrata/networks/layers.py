"""Layers of encoders and heads: what is known of an element, the multilayer perceptron, and self-attention.

B samples, N atoms, L tokens, C channels, d width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crystrata.compositions.element_features import load_element_features
from crystrata.elements import MAX_ATOMIC_NUMBER
from crystrata.errors import UsageError, unknown_name

_LIMIT = 4.0  # standard deviations: hydrogen and carbon lie far out


class ElementEmbedding(nn.Module):
    """A learned vector for each element plus a linear map of its physical properties, group and row.

    The properties let what is learned of one element speak for its neighbours in the periodic table. They are part of
    the saved weights.

    Args:
        channels: C.
    """

    features: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.own = nn.Embedding(MAX_ATOMIC_NUMBER + 1, channels)
        self.register_buffer("features", torch.tensor(_features(), dtype=torch.get_default_dtype()))
        self.known = nn.Linear(self.features.shape[1], channels, bias=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return the vectors (N, C) of atomic numbers (N,)."""
        table = self.own.weight + self.known(self.features)
        return table.index_select(0, numbers)


def _features() -> np.ndarray:
    """Return the properties of the elements, standardised, with group and row one-hot, (1 + Z, F); no element is 0."""
    table = load_element_features()
    spread = (table.values - table.values.mean(0)) / table.values.std(0)
    kinds = [table.values[:, table.names.index(name)] for name in ("group", "row")]
    one_hot = [(values[:, None] == np.unique(values)).astype(float) for values in kinds]
    known = np.hstack([spread.clip(-_LIMIT, _LIMIT), *one_hot])
    return np.vstack([np.zeros(known.shape[1]), known])


Norm = Literal["layer", "batch", "none"]
NORMS = ("layer", "batch", "none")
Activation = Literal["silu", "leaky_relu", "relu"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "leaky_relu": partial(functional.leaky_relu, negative_slope=0.1),
    "relu": functional.relu,
}


class BatchNorm(nn.BatchNorm1d):
    """Batch norm that takes its running statistics for a batch of one sample, which has no spread of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """Return normed features (B, C)."""
        if len(x) > 1:
            return super().forward(x)
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class DenseLayer(nn.Module):
    """Linear, norm, activation, dropout; as a residual block two linear maps, the input added before the activation.

    Args:
        width_in: Width of the input.
        width_out: Width of the output.
        norm: `layer`, `batch` or `none`.
        residual: Whether it is a residual block.
        dropout: Fraction of the output that is left out in training.
        activation: Row of `ACTIVATIONS`.
    """

    def __init__(
        self, width_in: int, width_out: int, norm: Norm, residual: bool, dropout: float, activation: Activation
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.first = _normed_linear(width_in, width_out, norm)
        self.second = _normed_linear(width_out, width_out, norm) if residual else None
        self.skip = nn.Linear(width_in, width_out, bias=False) if residual and width_in != width_out else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, width_out) of features (B, width_in)."""
        y = self.first(x)
        if self.second is not None:
            y = self.second(self.activation(y)) + self.skip(x)
        return self.dropout(self.activation(y))


class Perceptron(nn.Module):
    """Dense layers and a linear one at the end: what it returns may have any sign and size.

    Args:
        widths: From the input to the output, at least these two.
        norm: `layer`, `batch` or `none`.
        residual: Whether the layers before the last are residual blocks.
        dropout: Fraction of the output of each of them that is left out in training.
        activation: `leaky_relu`, with slope 0.1 below zero, `relu` or `silu`.

    Raises:
        UsageError: Fewer than two widths, one below 1, an unknown norm or activation, or a dropout outside of [0, 1).
    """

    def __init__(
        self,
        widths: Sequence[int],
        norm: Norm = "layer",
        residual: bool = False,
        dropout: float = 0.0,
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise UsageError(f"the widths of a perceptron are at least two numbers from 1 on, not {list(widths)}")
        if norm not in NORMS:
            raise unknown_name("norm", norm, NORMS)
        if activation not in ACTIVATIONS:
            raise unknown_name("activation", activation, ACTIVATIONS)
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout is a fraction from 0 to below 1, not {dropout}")
        dense = (
            DenseLayer(before, after, norm, residual, dropout, activation) for before, after in pairwise(widths[:-1])
        )
        self.hidden = nn.Sequential(*dense)
        self.last = nn.Linear(widths[-2], widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return values (B, widths[-1]) of features (B, widths[0])."""
        return self.last(self.hidden(x))


def _normed_linear(width_in: int, width_out: int, norm: Norm) -> nn.Sequential:
    linear = nn.Linear(width_in, width_out, bias=norm != "batch")  # batch norm takes a bias away again
    if norm == "none":
        return nn.Sequential(linear)
    return nn.Sequential(linear, nn.LayerNorm(width_out) if norm == "layer" else BatchNorm(width_out))


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
