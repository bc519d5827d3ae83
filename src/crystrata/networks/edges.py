"""What encoders and tensor heads read of the edges, made once per batch. N atoms, E edges, T pairs of edges.

The three-body features of an edge are Legendre moments of the angles at its centre:

    a_ij,nl = w_ij sum_{k != j} w_ik b_n(r_ik) P_l(cos theta_jik),   l = 1..l_max

with w the envelope times a C2 fall-off at the angle cutoff. The *cached* form sums over the angle pairs of the store.
The *density* form needs none: by the addition theorem (2l+1) P_l(cos theta_jik) = sum_m Y_lm(ij) Y_lm(ik), so the sum
over k is taken once per centre and contracted with Y(ij). Both give the same numbers; the pairs are rounded to 16 bits.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import CrystalBatch
from crystrata.networks.density import NeighbourSum
from crystrata.networks.geometry import (
    BesselBasis,
    GaussianBasis,
    RelativeBasis,
    edge_envelope,
    edge_lengths,
    envelope,
    harmonics,
)


class EdgeFeatures(nn.Module):
    """Features and weight of each edge: a radial basis of its length and what else is wanted. Nothing is learned here.

    Args:
        basis: Radial basis.
        graph: Settings of the neighbourhoods.
        angles: Where angle features come from.
        relative: Whether the length over the sum of the covalent radii is a feature besides.

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


AngleForm = Literal["none", "cached", "density"]


class AngleFeatures(nn.Module):
    """Legendre moments of the angles between an edge and the other edges of its centre.

    Args:
        form: `cached` reads the pairs of the store, `density` needs none.
        cutoff: Longest edge that takes part [A]; at most the angle cutoff of the store for `cached`.
        delta: Width of the smooth neighbourhood.
        n_radial: Radial functions b_n.
        l_max: Highest degree.
    """

    def __init__(self, form: AngleForm, cutoff: float, delta: float, n_radial: int = 4, l_max: int = 3) -> None:
        super().__init__()
        self.form, self.cutoff, self.delta, self.l_max = form, cutoff, delta, l_max
        self.basis = BesselBasis(n_radial, cutoff)
        self.width = n_radial * l_max

    def forward(self, batch: CrystalBatch, distance: Tensor) -> Tensor:
        """Return the features of each edge, (E, n_radial * l_max)."""
        weight = edge_envelope(batch, distance, self.delta) * envelope(
            distance, torch.full_like(distance, self.cutoff), 0.5
        )
        weight = weight.unsqueeze(1)
        radial = weight * self.basis(distance)  # (E, n)
        moments = self._from_pairs if self.form == "cached" else self._from_density
        return (weight.unsqueeze(2) * moments(batch, radial)).flatten(1)

    def _from_pairs(self, batch: CrystalBatch, radial: Tensor) -> Tensor:
        first, second = batch.pair
        legendre = _legendre(batch.cosine, self.l_max)  # (T, l)
        sums = radial.new_zeros(*radial.shape, self.l_max)  # (E, n, l)
        sums = sums.index_add(0, first, radial[second].unsqueeze(2) * legendre.unsqueeze(1))
        return sums.index_add(0, second, radial[first].unsqueeze(2) * legendre.unsqueeze(1))

    def _from_density(self, batch: CrystalBatch, radial: Tensor) -> Tensor:
        n_atoms = len(batch.numbers)
        moments = []
        for degree, factor in enumerate(harmonics(batch.vector, self.l_max)):
            if degree > 0:
                density = NeighbourSum(factor, batch.centre, n_atoms)(radial)  # (2l+1, N, n)
                at_edge = density.index_select(1, batch.centre)  # (2l+1, E, n)
                moments.append(torch.einsum("em,men->en", factor, at_edge) / (2 * degree + 1) - radial)
        return torch.stack(moments, dim=2)


def _legendre(cosine: Tensor, l_max: int) -> Tensor:
    """Return P_1..P_l_max of cosines (T,), (T, l_max), by the recurrence (l+1) P_l+1 = (2l+1) x P_l - l P_l-1."""
    values = [torch.ones_like(cosine), cosine]
    for degree in range(1, l_max):
        values.append(((2 * degree + 1) * cosine * values[-1] - degree * values[-2]) / (degree + 1))
    return torch.stack(values[1:], dim=1)
