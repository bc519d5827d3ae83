"""The kernel mean descriptor as a part of the network: linear in the composition, so that gradients reach it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class KernelMean(nn.Module):
    """x = w K with a constant kernel matrix. B samples, n elements, D descriptor width.

    Args:
        matrix: K, (n, D): row i describes element i.
    """

    matrix: Tensor

    def __init__(self, matrix: np.ndarray | Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.tensor(np.asarray(matrix), dtype=torch.get_default_dtype()))

    def forward(self, weights: Tensor) -> Tensor:
        """Return descriptors (B, D) of atomic fractions (B, n), in their precision."""
        return weights @ self.matrix.to(weights.dtype)
