"""The dielectric tensor: symmetric, rank 2, with all principal values above 1. B crystals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crystrata.datasets.labelled_batch import Components
from crystrata.neighbourhood import GraphSettings
from crystrata.networks.encoders.encoder import Latent
from crystrata.networks.heads.equivariant import TensorReadout, cartesian_basis
from crystrata.networks.heads.head import Head
from crystrata.properties import Property

_LARGEST_LOG = 7.0  # exp(7) = 1097: principal values above that do not occur, and the exponential stays finite


class DielectricHead(Head):
    """eps = 1 + exp(M) with M a symmetric matrix of irreps 0e + 2e: it turns with the crystal and is positive.

    The crystal latent sets the level of M, the equivariant readout adds to it and gives the anisotropic part. The
    diagonal is supervised where the frame of the labels is that of the crystal, the mean of the diagonal elsewhere.

    Args:
        record: The property.
        width: d, width of the latents.
        hidden: Width of the hidden layer.
        graph: Settings of the neighbourhoods.
    """

    serves = ("dielectric",)
    basis: Tensor

    def __init__(self, record: Property, width: int, hidden: int, graph: GraphSettings) -> None:
        super().__init__(record, width, hidden, graph)
        irreps, basis = cartesian_basis("ij=ji")
        self.register_buffer("basis", basis)
        self.isotropic = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, 1))
        self.readout = TensorReadout(irreps, width, graph)

    def forward(self, latent: Latent) -> Tensor:
        """Return the dielectric tensor of each crystal in the frame of its lattice, (B, 3, 3)."""
        matrix = torch.einsum("bp,pij->bij", self.readout(latent), self.basis.to(latent.atoms.dtype))
        identity = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
        trace = torch.diagonal(matrix, dim1=1, dim2=2).mean(1)
        typical = self.scaling.restore(matrix.new_zeros(1), latent.fractions[:1])  # the median label
        level = (typical - 1).clamp(min=0.1).log() + self.isotropic(latent.crystal).squeeze(1)
        anisotropic = matrix - trace[:, None, None] * identity
        size = torch.linalg.vector_norm(anisotropic, dim=(1, 2), keepdim=True)
        bounded = anisotropic / (1 + size / _LARGEST_LOG)
        level = (level + trace).clamp(-_LARGEST_LOG, _LARGEST_LOG)
        return identity + level.exp()[:, None, None] * torch.linalg.matrix_exp(bounded)

    def loss(
        self, output: Tensor, latent: Latent, target: Tensor, mask: Tensor, components: Components | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed absolute error on the standardised scale and the count; see `Head.loss`."""
        diagonal = torch.diagonal(output, dim1=1, dim2=2)
        error = self._error(diagonal.mean(1), target.where(mask, 1.0), latent)
        if components is not None:
            wanted = components.values.where(components.known.unsqueeze(1), 1.0)
            each = torch.stack([self._error(diagonal[:, axis], wanted[:, axis], latent) for axis in range(3)]).mean(0)
            error = torch.where(components.known, each, error)
        return (error * mask).sum(), mask.sum()

    def _error(self, predicted: Tensor, wanted: Tensor, latent: Latent) -> Tensor:
        scaling, fractions = self.scaling, latent.fractions
        return (scaling.standardise(predicted, fractions) - scaling.standardise(wanted, fractions)).abs()

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return the mean of the diagonal, (B,)."""
        return torch.diagonal(output, dim1=1, dim2=2).mean(1)

    def details(self, output: Tensor, latent: Latent) -> dict[str, Tensor]:
        """Return the principal values, ascending, and the diagonal where the orientation is given, NaN elsewhere."""
        principal = torch.linalg.eigvalsh(output)
        diagonal = torch.diagonal(output, dim1=1, dim2=2)
        diagonal = diagonal.where(latent.batch.orientation_given.unsqueeze(1), torch.nan)
        return {
            **{f"dielectric principal {axis + 1}": principal[:, axis] for axis in range(3)},
            **{f"dielectric {name}": diagonal[:, axis] for axis, name in enumerate(("xx", "yy", "zz"))},
        }
