"""What encoders and tensor heads read of the edges, made once per batch. E edges."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crystrata.graphs.batch import CrystalBatch
from crystrata.neighbourhood import GraphSettings
from crystrata.networks.angles import AngleFeatures, AngleForm
from crystrata.networks.geometry import BesselBasis, GaussianBasis, edge_envelope, edge_lengths


class EdgeFeatures(nn.Module):
    """Radial basis of the length and, if wanted, angle features; and the weight of each edge. Nothing is learned here.

    Args:
        basis: Radial basis.
        graph: Settings of the neighbourhoods.
        angles: Where angle features come from.

    Attributes:
        width: Width of the features.
    """

    def __init__(self, basis: BesselBasis | GaussianBasis, graph: GraphSettings, angles: AngleForm = "none") -> None:
        super().__init__()
        self.basis, self.delta = basis, graph.delta
        self.angles = None if angles == "none" else AngleFeatures(angles, graph.angle_cutoff, graph.delta)
        self.width = basis.n + (self.angles.width if self.angles else 0)

    def forward(self, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return the features of each edge, (E, width), and its smooth-neighbourhood weight, (E, 1)."""
        distance = edge_lengths(batch)
        features = self.basis(distance)
        if self.angles is not None:
            features = torch.cat([features, self.angles(batch, distance)], dim=1)
        return features, edge_envelope(batch, distance, self.delta).unsqueeze(1)
