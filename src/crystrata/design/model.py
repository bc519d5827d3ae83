"""A trained network of compositions as inverse design sees it: atomic fractions in, latents out, and back.

B recipes, n elements, D descriptor width, d latent width.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from crystrata.compositions.descriptors import KernelMean
from crystrata.errors import UsageError
from crystrata.networks.kmd import KernelMean as KernelMeanLayer
from crystrata.networks.network import Network


class DesignModel:
    """The way from atomic fractions to latents, differentiable, and from descriptors back to fractions.

    Args:
        network: Reads the kernel mean descriptor.
        descriptor: That descriptor.

    Raises:
        UsageError: The network reads another descriptor.
    """

    def __init__(self, network: Network, descriptor: KernelMean) -> None:
        matrix = descriptor.kernel.matrix
        if matrix.shape[1] != network.descriptor_mean.shape[0]:
            raise UsageError(
                f"the network reads {network.descriptor_mean.shape[0]} numbers, the kernel mean has {matrix.shape[1]}: "
                "inverse design needs the descriptor that the network was trained on, of the kind kernel_mean"
            )
        self.network, self.kernel = network, descriptor.kernel
        self.device = network.device
        self._layer = KernelMeanLayer(matrix).to(self.device)

    def descriptors(self, weights: Tensor) -> Tensor:
        """Return descriptors (B, D) of atomic fractions (B, n)."""
        return self._layer(weights)

    def latents(self, descriptors: Tensor) -> Tensor:
        """Return what the heads read, (B, d), of descriptors (B, D)."""
        return self.network.composition_latents(descriptors)

    def recipes(self, descriptors: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the fractions (B, n) whose descriptors are nearest to descriptors (B, D), and the distances, (B,)."""
        return self.kernel.inverse(descriptors.detach().cpu().double().numpy())
