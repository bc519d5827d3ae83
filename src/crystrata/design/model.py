"""A trained network of compositions as inverse design sees it: atomic fractions in, latents out, and back.

B recipes, n elements, D descriptor width, d latent width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from crystrata.compositions.descriptors import KernelMean
from crystrata.errors import UsageError
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
        self._matrix = torch.tensor(matrix, dtype=torch.get_default_dtype(), device=self.device)  # (n, D)

    def descriptors(self, weights: Tensor) -> Tensor:
        """Return descriptors (B, D) of atomic fractions (B, n), in their precision; linear, so that gradients pass."""
        return weights @ self._matrix.to(weights.dtype)

    def latents(self, descriptors: Tensor) -> Tensor:
        """Return what the heads read, (B, d), of descriptors (B, D)."""
        return self.network.composition_latents(descriptors)

    def decoder(self) -> str:
        """Return the name of the task that decodes latents.

        Raises:
            UsageError: The network has no such task, or its latents have no bounds.
        """
        decoder = next((task.name for task in self.network.tasks if task.kind == "autoencoder"), None)
        if decoder is None:
            raise UsageError("the space `latent` needs an autoencoder head: train with one, or take the space `input`")
        if self.network.stage.kind == "none":
            raise UsageError("the space `latent` needs a bounded latent: train with the latent stage tanh or deposit")
        return decoder

    def decoded(self, decoder: str, latents: Tensor) -> Tensor:
        """Return the descriptors (B, D) that a decoder makes of latents (B, d)."""
        return self.network.predict(decoder, latents)

    def standardised(self, descriptors: Tensor) -> Tensor:
        """Return descriptors (B, D) on the scale that the network reads."""
        return self.network.standardised(descriptors)

    def descriptors_of_standardised(self, standardised: Tensor) -> Tensor:
        """Return descriptors (B, D) of what the network reads, (B, D)."""
        return standardised * self.network.descriptor_scale + self.network.descriptor_mean

    def recipes(self, descriptors: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the fractions (B, n) whose descriptors are nearest to descriptors (B, D), and the distances, (B,)."""
        return self.kernel.inverse(descriptors.detach().cpu().double().numpy())


@contextmanager
def untouched(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, its parameters without gradients, and back as it was, also after an error."""
    modes = [(module, module.training) for module in network.modules()]
    trained = [(weight, weight.requires_grad, weight.grad) for weight in network.parameters()]
    try:
        network.eval()
        network.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for weight, requires, grad in trained:
            weight.requires_grad_(requires)
            weight.grad = grad
