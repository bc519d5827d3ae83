"""What the heads of tensor properties share: a Cartesian tensor with index symmetry, and its level. B crystals."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from crystrata.graph_settings import GraphSettings
from crystrata.networks.encoders.encoder import Latent
from crystrata.networks.heads.equivariant import TensorReadout, cartesian_basis
from crystrata.networks.heads.head import Head
from crystrata.properties import Property


class TensorHead(Head):
    """Base of tensor heads: an equivariant tensor of the crystal and an invariant number from its latent.

    Args:
        record: The property.
        width: d, width of the latents.
        hidden: Width of the hidden layer.
        graph: Settings of the neighbourhoods.

    Attributes:
        symmetry: Index symmetry of the tensor as in e3nn, `ij=ji` or `ijk=ikj`.
    """

    reads_whole_crystals = True
    symmetry: ClassVar[str]
    basis: Tensor

    def __init__(self, record: Property, width: int, hidden: int, graph: GraphSettings) -> None:
        super().__init__(record, width, hidden, graph)
        irreps, basis = cartesian_basis(self.symmetry)
        self.register_buffer("basis", basis)
        self.invariant = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, 1))
        self.readout = TensorReadout(irreps, width, graph)

    def tensor(self, latent: Latent) -> Tensor:
        """Return the tensor of each crystal in the frame of its lattice, (B, 3, ..., 3); it turns with the crystal."""
        return torch.tensordot(self.readout(latent), self.basis.to(latent.atoms.dtype), dims=1)

    def level(self, latent: Latent) -> Tensor:
        """Return an invariant number of each crystal, (B,)."""
        return self.invariant(latent.crystal).squeeze(1)

    def standardised_error(self, predicted: Tensor, wanted: Tensor, latent: Latent) -> Tensor:
        """Return the absolute error on the standardised scale of values in physical units, (B,)."""
        scaling, fractions = self.scaling, latent.fractions
        return (scaling.standardise(predicted, fractions) - scaling.standardise(wanted, fractions)).abs()
