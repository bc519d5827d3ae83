"""The piezoelectric tensor: rank 3, odd under inversion, hence zero in a centrosymmetric crystal. B crystals."""

from __future__ import annotations

import torch
from torch import Tensor

from crystrata.datasets.batch import Targets
from crystrata.networks.heads.tensor import TensorHead
from crystrata.networks.latent import Latent

_TINY = 1e-4  # of the scale of the labels: makes the norm smooth at zero
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


class PiezoelectricHead(TensorHead):
    """d = s a(h) T with T of irreps 2x1o + 2o + 3o pooled before any norm, and a > 0 an amplitude from the latent.

    What is compared with the label is the norm of d_ijk, which no rotation changes.
    """

    symmetry = "ijk=ikj"

    def forward(self, latent: Latent, targets: Targets | None = None) -> Tensor:
        """Return the piezoelectric tensor d_ijk of each crystal in the frame of its lattice, (B, 3, 3, 3) [pC/N]."""
        amplitude = self.level(latent).clamp(-8, 8).exp() * self.scaling.transform_scale
        return amplitude[:, None, None, None] * self.tensor(latent)

    def loss(self, output: Tensor, latent: Latent, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return the summed absolute error on the standardised scale and the count; see `Head.loss`."""
        error = self.standardised_error(self.predict(output, latent), targets.values.where(targets.known, 0.0))
        return (error * targets.known).sum(), self.count(targets)

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return the size of the tensor, (B,) [pC/N]."""
        square, tiny = output.flatten(1).square().sum(1), _TINY * self.scaling.transform_scale
        return square / ((square + tiny**2).sqrt() + tiny)  # sqrt(square + tiny^2) - tiny, without cancellation


class LargestPiezoelectricHead(PiezoelectricHead):
    """The same tensor; its size is its largest Voigt component (d_i4 = 2 d_iyz), frame-dependent as the label is."""

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return the largest component of the tensor, (B,) [pC/N]."""
        return voigt_components(output).flatten(1).abs().amax(1)


def voigt_components(tensor: Tensor) -> Tensor:
    """Return the Voigt matrix d_ij, (B, 3, 6), of tensors d_ijk, (B, 3, 3, 3)."""
    return torch.stack([tensor[:, :, j, k] * (1 if j == k else 2) for j, k in _VOIGT], dim=2)
