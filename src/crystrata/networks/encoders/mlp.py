"""The multilayer perceptron on a descriptor. B samples, D descriptor width, d latent width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from crystrata.networks.encoders.descriptor import DescriptorEncoder
from crystrata.networks.layers import Norm, Perceptron


class MLPEncoder(DescriptorEncoder):
    """Dense layers from the descriptor to the latent; the last one is linear.

    Args:
        hidden_dims: Widths, first D, last d.
        norm: `layer`, `batch` (a batch of one sample takes the running statistics) or `none`.
        residual: Whether the layers before the last are residual blocks of two.
        dropout: Fraction of the output of each of them that is left out in training.
    """

    def __init__(
        self, hidden_dims: Sequence[int], norm: Norm = "layer", residual: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = Perceptron(hidden_dims, norm, residual, dropout)
        self.input_width, self.latent_width = hidden_dims[0], hidden_dims[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Return latents (B, d) of descriptors (B, D)."""
        return self.layers(x)
