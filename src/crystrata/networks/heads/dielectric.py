"""The dielectric tensor: symmetric, rank 2, with all principal values above 1. B crystals."""

from __future__ import annotations

import torch
from torch import Tensor

from crystrata.datasets.batch import Targets
from crystrata.networks.heads.tensor import TensorHead
from crystrata.networks.latent import Latent

_LARGEST_LOG = 7.0  # exp(7) = 1097: principal values above that do not occur, and the exponential stays finite


class DielectricHead(TensorHead):
    """eps = 1 + exp(M) with M a symmetric matrix of irreps 0e + 2e: it turns with the crystal and is positive.

    The crystal latent sets the level of M, the equivariant readout adds to it and gives the anisotropic part. The
    diagonal is supervised where the frame of the labels is that of the crystal, the mean of the diagonal elsewhere.
    """

    symmetry = "ij=ji"

    def forward(self, latent: Latent, targets: Targets | None = None) -> Tensor:
        """Return the dielectric tensor of each crystal in the frame of its lattice, (B, 3, 3)."""
        matrix = self.tensor(latent)
        identity = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
        trace = torch.diagonal(matrix, dim1=1, dim2=2).mean(1)
        typical = self.scaling.restore(matrix.new_zeros(1))  # the median label
        level = (typical - 1).clamp(min=0.1).log() + self.level(latent) + trace
        anisotropic = matrix - trace[:, None, None] * identity
        size = torch.linalg.vector_norm(anisotropic, dim=(1, 2), keepdim=True)
        bounded = anisotropic / (1 + size / _LARGEST_LOG)
        scale = level.clamp(-_LARGEST_LOG, _LARGEST_LOG).exp()
        return identity + scale[:, None, None] * torch.linalg.matrix_exp(bounded)

    def loss(self, output: Tensor, latent: Latent, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return the summed absolute error on the standardised scale and the count; see `Head.loss`."""
        diagonal = torch.diagonal(output, dim1=1, dim2=2)
        error = self.standardised_error(diagonal.mean(1), targets.values.where(targets.known, 1.0))
        if (components := targets.components) is not None:
            wanted = components.values.where(components.known.unsqueeze(1), 1.0)
            axes = [self.standardised_error(diagonal[:, axis], wanted[:, axis]) for axis in range(3)]
            each = torch.stack(axes).mean(0)
            error = torch.where(components.known, each, error)
        return (error * targets.known).sum(), self.count(targets)

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return the mean of the diagonal, (B,)."""
        return torch.diagonal(output, dim1=1, dim2=2).mean(1)

    @property
    def detail_titles(self) -> tuple[str, ...]:
        """Titles of the three principal values and of the diagonal."""
        return tuple(f"dielectric {name}" for name in ("principal 1", "principal 2", "principal 3", "xx", "yy", "zz"))

    def details(self, output: Tensor, latent: Latent) -> dict[str, Tensor]:
        """Return the principal values, ascending, and the diagonal where the orientation is given, NaN elsewhere."""
        principal = torch.linalg.eigvalsh(output)
        diagonal = torch.diagonal(output, dim1=1, dim2=2)
        _, batch = latent.crystals()
        diagonal = diagonal.where(batch.orientation_given.unsqueeze(1), torch.nan)
        return dict(zip(self.detail_titles, torch.cat([principal, diagonal], dim=1).unbind(1), strict=True))
