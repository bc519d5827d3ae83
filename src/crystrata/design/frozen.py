"""A network as it is, whatever is done with it in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
