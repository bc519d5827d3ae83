"""A trained network of compositions for inverse design: from atomic fractions to latents, and back.

B compositions, n elements, D descriptor width, d latent width.
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
    """Differentiable mapping from atomic fractions to latents, and from descriptors back to fractions.

    Args:
        network: A network that reads the kernel mean descriptor.
        descriptor: The descriptor that it was trained on.

    Raises:
        UsageError: The network reads another descriptor.
    """

    def __init__(self, network: Network, descriptor: KernelMean) -> None:
        matrix = descriptor.kernel.matrix
        if matrix.shape[1] != network.descriptor_mean.shape[0]:
            raise UsageError(
                f"the network reads {network.descriptor_mean.shape[0]} numbers, but the kernel mean has "
                f"{matrix.shape[1]}: give the descriptor of kind kernel_mean that the network was trained on"
            )
        self.network, self.kernel = network, descriptor.kernel
        self.device = network.device
        self._matrix = torch.tensor(matrix, dtype=torch.get_default_dtype(), device=self.device)  # (n, D)

    def descriptors(self, weights: Tensor) -> Tensor:
        """Return descriptors (B, D) of atomic fractions (B, n), in the precision of the fractions."""
        return weights @ self._matrix.to(weights.dtype)

    def latents(self, descriptors: Tensor) -> Tensor:
        """Return the latents (B, d) of descriptors (B, D)."""
        return self.network.composition_latents(descriptors)

    def decoder(self) -> str:
        """Return the name of the task that decodes latents.

        Raises:
            UsageError: The network has no such task, or its latents are not bounded.
        """
        decoder = next((task.name for task in self.network.tasks if task.kind == "autoencoder"), None)
        if decoder is None:
            raise UsageError("the space `latent` needs an autoencoder head: train with one, or take the space `input`")
        if self.network.stage.kind == "none":
            raise UsageError("the space `latent` needs a bounded latent: train with the latent stage tanh or deposit")
        return decoder

    def decoded(self, decoder: str, latents: Tensor) -> Tensor:
        """Return the descriptors (B, D) decoded from latents (B, d)."""
        return self.network.predict(decoder, latents)

    def standardised(self, descriptors: Tensor) -> Tensor:
        """Return descriptors (B, D) on the scale that the network reads."""
        return self.network.standardised(descriptors)

    def restored(self, standardised: Tensor) -> Tensor:
        """Return descriptors (B, D) from the scale that the network reads."""
        return standardised * self.network.descriptor_scale + self.network.descriptor_mean

    def compositions(self, descriptors: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the fractions (B, n) with the descriptors nearest to descriptors (B, D), and the distances, (B,)."""
        return self.kernel.inverse(descriptors.detach().cpu().double().numpy())


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode without gradients, and restore it afterwards, even after an error."""
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
