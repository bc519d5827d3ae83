"""Tensors of a crystal: equivariant features of any encoder's latents, a Cartesian tensor of them, and the heads of the
dielectric tensor (symmetric, rank 2, with all principal values above 1) and of the piezoelectric tensor (rank 3, odd
under inversion, hence zero in a centrosymmetric crystal).

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
