"""Equivariant features for tensor heads, made from the latents of any encoder. N atoms, E edges, C channels."""

from __future__ import annotations

from math import sqrt

import torch
from e3nn import o3
from torch import Tensor, nn

from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import CrystalBatch
from crystrata.networks.density import NeighbourSum, mean_over_crystals
from crystrata.networks.edges import EdgeFeatures
from crystrata.networks.encoders.encoder import Latent
from crystrata.networks.geometry import TYPICAL_EDGES, BesselBasis, harmonics


class TensorReadout(nn.Module):
    """Irreps of a crystal: densities of the atoms' latents, their products, and the mean over atoms.

        A_i,lm = sum_j f_ij R_l(r_ij) (W h_j) Y_lm(ij),    T = L mean_i [ A_i, (U(h_i) A_i) (x) (V A_i) ]

    The products are taken channel by channel; V mixes channels first. Nothing is normalised before the mean, so that
    what symmetry cancels is zero to rounding.

    Args:
        irreps: What comes out, such as `2x1o+1x2o+1x3o`.
        width: d, width of the atom latents.
        graph: Settings of the neighbourhoods.
        channels: C.
        l_max: Highest degree of the densities.
        n_radial: Radial functions.
    """

    def __init__(
        self, irreps: str, width: int, graph: GraphSettings, channels: int = 16, l_max: int = 3, n_radial: int = 8
    ) -> None:
        super().__init__()
        self.l_max = l_max
        self.irreps = o3.Irreps(irreps)
        inside = o3.Irreps([(channels, (degree, (-1) ** degree)) for degree in range(l_max + 1)])
        self.edges = EdgeFeatures(BesselBasis(n_radial, graph.cutoff), graph)
        self.radial = nn.Sequential(nn.Linear(n_radial, 32), nn.SiLU(), nn.Linear(32, (l_max + 1) * channels))
        self.source = nn.Linear(width, channels, bias=False)
        self.centre = nn.Linear(width, channels)
        self.mix = o3.Linear(inside, inside)
        self.scale = o3.ElementwiseTensorProduct(inside, f"{inside.num_irreps}x0e")
        self.product = _channelwise_product(inside, self.irreps)
        self.linear = o3.Linear(inside + self.product.irreps_out, self.irreps)

    def forward(self, latent: Latent) -> Tensor:
        """Return the irreps of each crystal, (B, irreps.dim); zero where the batch has not all its atoms."""
        return latent.of_whole_crystals(self._read)

    def _read(self, atoms: Tensor, batch: CrystalBatch) -> Tensor:
        edge, weight = self.edges(batch)
        source = self.source(atoms).index_select(0, batch.neighbour)
        radial = self.radial(edge).chunk(self.l_max + 1, dim=1)
        parts = []
        for factor, values in zip(harmonics(batch.vector, self.l_max), radial, strict=True):
            density = NeighbourSum(weight * factor, batch.centre, len(batch.numbers))(values * source)
            parts.append(density.permute(1, 2, 0).flatten(1) / sqrt(TYPICAL_EDGES))  # (N, C (2l+1)), as e3nn orders it
        densities = torch.cat(parts, dim=1)
        gates = torch.sigmoid(self.centre(atoms)).repeat(1, self.l_max + 1)
        products = self.product(self.scale(densities, gates), self.mix(densities))
        features = torch.cat([densities, products], dim=1)
        return self.linear(mean_over_crystals(features, batch))


def _channelwise_product(inside: o3.Irreps, outside: o3.Irreps) -> o3.TensorProduct:
    """Return the products (C channels each) of pairs of degrees that reach a wanted irrep, lower degree first."""
    wanted = {irrep for _, irrep in outside}
    paths: list[tuple[int, int, int, str, bool]] = []
    results: list[tuple[int, o3.Irrep]] = []
    for left, (channels, one) in enumerate(inside):
        for right, (_, other) in enumerate(inside):
            for irrep in one * other:
                if left <= right and irrep in wanted:
                    paths.append((left, right, len(results), "uuu", False))
                    results.append((channels, irrep))
    return o3.TensorProduct(inside, inside, o3.Irreps(results), paths)


def cartesian_basis(formula: str) -> tuple[str, Tensor]:
    """Return the irreps of a Cartesian tensor with index symmetry and the tensors they stand for, (dim, 3, ..., 3).

    Args:
        formula: Index symmetry as in e3nn, `ij=ji` or `ijk=ikj`; every index is a polar vector.
    """
    indices = formula.split("=")[0]
    products = o3.ReducedTensorProducts(formula, **dict.fromkeys(indices, "1o"))
    return str(products.irreps_out), products.change_of_basis
