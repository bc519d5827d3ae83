"""What the heads of tensors share: equivariant features of any encoder's latents, and a Cartesian tensor of them.

B crystals, N atoms, E edges, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import ClassVar

import torch
from e3nn import o3
from torch import Tensor, nn

from crystrata.datasets.batch import Targets
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import CrystalBatch
from crystrata.networks.density import NeighbourSum, mean_over_crystals
from crystrata.networks.edges import EdgeFeatures
from crystrata.networks.geometry import TYPICAL_EDGES, BesselBasis, harmonics
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import Latent
from crystrata.networks.layers import Perceptron
from crystrata.networks.scaling import Scaling
from crystrata.tasks import Task


class TensorHead(Head):
    """Base of tensor heads: an equivariant tensor of the crystal and an invariant number from its latent.

    Args:
        task: The task.
        width: d, width of the latents.
        graph: Settings of the neighbourhoods.
        hidden: Widths of the hidden layers of the level.

    Attributes:
        symmetry: Index symmetry of the tensor as in e3nn, `ij=ji` or `ijk=ikj`.
    """

    reads_whole_crystals = True
    symmetry: ClassVar[str]
    basis: Tensor

    def __init__(self, task: Task, width: int, graph: GraphSettings, hidden: Sequence[int] = (128,)) -> None:
        super().__init__(task, width, graph)
        self.scaling = Scaling(task.transform, centre="median")
        irreps, basis = cartesian_basis(self.symmetry)
        self.register_buffer("basis", basis)
        self.invariant = Perceptron([width, *hidden, 1], "none", activation="silu")
        self.readout = TensorReadout(irreps, width, graph)

    def tensor(self, latent: Latent) -> Tensor:
        """Return the tensor of each crystal in the frame of its lattice, (B, 3, ..., 3); it turns with the crystal."""
        return torch.tensordot(self.readout(latent), self.basis.to(latent.pooled.dtype), dims=1)

    def level(self, latent: Latent) -> Tensor:
        """Return an invariant number of each crystal, (B,)."""
        return self.invariant(latent.pooled).squeeze(1)

    def standardised_error(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """Return the absolute error on the standardised scale of values in physical units, (B,)."""
        return (self.scaling.standardise(predicted) - self.scaling.standardise(wanted)).abs()

    def fit(self, targets: Targets, fractions: Tensor | None = None) -> None:
        """Fit the scaling."""
        self.scaling.fit(targets.values, targets.known)


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
