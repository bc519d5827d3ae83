"""What encoders and tensor heads read of the edges, made once per batch. E edges."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import CrystalBatch
from crystrata.networks.angles import AngleFeatures, AngleForm
from crystrata.networks.geometry import BesselBasis, GaussianBasis, RelativeBasis, edge_envelope, edge_lengths


class EdgeFeatures(nn.Module):
    """Features and weight of each edge: a radial basis of its length and what else is wanted. Nothing is learned here.

    Args:
        basis: Radial basis.
        graph: Settings of the neighbourhoods.
        angles: Where angle features come from.
        relative: Whether the length over the sum of the covalent radii is told besides.

    Attributes:
        width: Width of the features.
    """

    def __init__(
        self,
        basis: BesselBasis | GaussianBasis,
        graph: GraphSettings,
        angles: AngleForm = "none",
        *,
        relative: bool = False,
    ) -> None:
        super().__init__()
        self.basis, self.delta = basis, graph.delta
        self.angles = None if angles == "none" else AngleFeatures(angles, graph.angle_cutoff, graph.delta)
        self.relative = RelativeBasis() if relative else None
        self.width = basis.n + sum(part.width for part in (self.relative, self.angles) if part)

    def forward(self, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return the features of each edge, (E, width), and its smooth-neighbourhood weight, (E, 1)."""
        distance = edge_lengths(batch)
        features = [self.basis(distance)]
        features += [part(batch, distance) for part in (self.relative, self.angles) if part is not None]
        return torch.cat(features, dim=1), edge_envelope(batch, distance, self.delta).unsqueeze(1)
