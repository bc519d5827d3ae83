"""From physical labels to numbers of order one and back, inside the model: it cannot be forgotten. B crystals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crystrata.elements import MAX_ATOMIC_NUMBER
from crystrata.properties import Property

_RIDGE = 1.0  # shrinks the coefficient of an element seen in few crystals


class TargetScaling(nn.Module):
    """z = (f(y) - w . x - location) / scale, with f the identity or asinh(y / s) and w a ridge on atomic fractions x.

    The network learns z by absolute error; a monotone f keeps the median, so the inverse is the median of y.

    Args:
        record: The property; says which f, and whether the composition carries the bulk of the value.
    """

    location: Tensor
    scale: Tensor
    transform_scale: Tensor
    ridge: Tensor

    def __init__(self, record: Property) -> None:
        super().__init__()
        self.transform = record.transform
        self.uses_ridge = record.additive
        self.register_buffer("location", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("transform_scale", torch.ones(()))
        self.register_buffer("ridge", torch.zeros(MAX_ATOMIC_NUMBER))

    def standardise(self, value: Tensor, fractions: Tensor) -> Tensor:
        """Return z (B,) of physical values (B,) at atomic fractions (B, 103)."""
        return (self._transformed(value) - fractions @ self.ridge - self.location) / self.scale

    def restore(self, z: Tensor, fractions: Tensor) -> Tensor:
        """Return physical values (B,) of network values z (B,)."""
        value = z * self.scale + self.location + fractions @ self.ridge
        return self.transform_scale * torch.sinh(value.clamp(-20, 20)) if self.transform == "asinh" else value

    def _transformed(self, value: Tensor) -> Tensor:
        return torch.asinh(value / self.transform_scale) if self.transform == "asinh" else value

    @torch.no_grad()
    def fit(self, value: Tensor, fractions: Tensor) -> None:
        """Fit scale, location and ridge on training labels (n,) in physical units with atomic fractions (n, 103)."""
        value, fractions = value.double(), fractions.double()
        if self.transform == "asinh":
            sizes = value.abs()[value != 0]
            self.transform_scale.fill_(float(sizes.median()) if len(sizes) else 1.0)
        rest = self._transformed(value)
        if self.uses_ridge:
            centred = rest - rest.mean()
            normal = fractions.T @ fractions + _RIDGE * torch.eye(fractions.shape[1], dtype=torch.double)
            ridge = torch.linalg.solve(normal, fractions.T @ centred)
            self.ridge.copy_(ridge)
            rest = rest - fractions @ ridge
        location = rest.median()
        spread = float((rest - location).abs().mean())
        self.location.fill_(float(location))
        self.scale.fill_(spread if spread > 1e-6 else 1.0)
