"""In place of an encoder of descriptors, where the crystal alone is read. B samples, d latent width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crystrata.networks.encoders.descriptor import DescriptorEncoder


class ConstantEncoder(DescriptorEncoder):
    """The same learned latent for every composition: what is told where no crystal is there.

    Args:
        input_dim: Width of the descriptor, which is not read.
        latent_width: d.
    """

    def __init__(self, input_dim: int, latent_width: int = 128) -> None:
        super().__init__()
        self.input_width, self.latent_width = input_dim, latent_width
        self.latent = nn.Parameter(torch.zeros(latent_width))

    def forward(self, x: Tensor) -> Tensor:
        """Return latents (B, d) of descriptors (B, D)."""
        return self.latent.expand(len(x), -1)
