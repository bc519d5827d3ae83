"""The multilayer perceptron of encoders and task heads: linear, norm, LeakyReLU(0.1); the last layer is linear."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from crystrata.errors import UsageError, unknown_name

Norm = Literal["layer", "batch", "none"]
NORMS = ("layer", "batch", "none")
SLOPE = 0.1


class BatchNorm(nn.BatchNorm1d):
    """Batch norm that takes its running statistics for a batch of one sample, which has no spread of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """Return normed features (B, C)."""
        if len(x) > 1:
            return super().forward(x)
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class DenseLayer(nn.Module):
    """Linear, norm, LeakyReLU, dropout; as a residual block two linear maps, the input added before the last LeakyReLU.

    Args:
        width_in: Width of the input.
        width_out: Width of the output.
        norm: `layer`, `batch` or `none`.
        residual: Whether it is a residual block.
        dropout: Fraction of the output that is left out in training.
    """

    def __init__(self, width_in: int, width_out: int, norm: Norm, residual: bool, dropout: float) -> None:
        super().__init__()
        self.first = _normed_linear(width_in, width_out, norm)
        self.second = _normed_linear(width_out, width_out, norm) if residual else None
        self.skip = nn.Linear(width_in, width_out, bias=False) if residual and width_in != width_out else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, width_out) of features (B, width_in)."""
        y = self.first(x)
        if self.second is not None:
            y = self.second(functional.leaky_relu(y, SLOPE)) + self.skip(x)
        return self.dropout(functional.leaky_relu(y, SLOPE))


class Perceptron(nn.Module):
    """Dense layers and a linear one at the end: what it returns may have any sign and size.

    Args:
        widths: From the input to the output, at least these two.
        norm: `layer`, `batch` or `none`.
        residual: Whether the layers before the last are residual blocks.
        dropout: Fraction of the output of each of them that is left out in training.

    Raises:
        UsageError: Fewer than two widths, one below 1, an unknown norm, or a dropout outside of [0, 1).
    """

    def __init__(
        self, widths: Sequence[int], norm: Norm = "layer", residual: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise UsageError(f"the widths of a perceptron are at least two numbers from 1 on, not {list(widths)}")
        if norm not in NORMS:
            raise unknown_name("norm", norm, NORMS)
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout is a fraction from 0 to below 1, not {dropout}")
        dense = (DenseLayer(before, after, norm, residual, dropout) for before, after in pairwise(widths[:-1]))
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
