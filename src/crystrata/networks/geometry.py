"""What the networks see of an edge: distance, smooth envelope, radial basis, spherical harmonics. E edges."""

from __future__ import annotations

from math import pi, sqrt

import torch
from torch import Tensor, nn

from crystrata.elements import COVALENT_RADII
from crystrata.graphs.batch import CrystalBatch

TYPICAL_EDGES = 20.0
"""Edges of an atom in a smooth neighbourhood with k = 12: dividing sums by its root keeps them of order one."""

_TYPICAL_DISTANCE = 3.5  # [A] of a neighbour
_NEAREST, _FARTHEST = 0.6, 2.7  # sums of covalent radii: from the shortest bonds to where neighbourhoods end


def envelope(distance: Tensor, radius: Tensor, delta: float) -> Tensor:
    """Return the weight of each edge, (E,): 1 up to R_i / (1 + delta), then a C2 polynomial down to zero at R_i.

    Args:
        distance: Edge lengths, (E,) [A].
        radius: Range R_i of each edge's centre, (E,) [A].
        delta: Relative width of the fading shell.
    """
    inner = radius / (1 + delta)
    t = ((distance - inner) / (radius - inner)).clamp(0, 1)
    return 1 - t**3 * (10 - 15 * t + 6 * t**2)


class BesselBasis(nn.Module):
    """Radial basis sqrt(2) (r0 / r) sin(k pi r / c), k = 1..n (Gasteiger et al., DimeNet, 2020, eq. 7).

    r0 = 3.5 A makes the functions of order one at the distances of neighbours; with the unit norm of the original they
    are ten times smaller, and the radial networks behind them learn much more slowly.

    Args:
        n: Number of functions.
        cutoff: c [A].
    """

    frequencies: Tensor

    def __init__(self, n: int, cutoff: float) -> None:
        super().__init__()
        self.n = n
        self.register_buffer("frequencies", torch.arange(1, n + 1) * (pi / cutoff), persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Return the basis (E, n) of distances (E,) [A]."""
        scaled = distance.unsqueeze(-1) * self.frequencies
        return sqrt(2) * _TYPICAL_DISTANCE * self.frequencies * torch.sinc(scaled / pi)


class GaussianBasis(nn.Module):
    """Gaussians at n equal steps on [0, cutoff], one step wide (Xie and Grossman, CGCNN, 2018).

    Args:
        n: Number of functions.
        cutoff: Last centre [A].
    """

    centres: Tensor

    def __init__(self, n: int, cutoff: float) -> None:
        super().__init__()
        self.n, self.step = n, cutoff / (n - 1)
        self.register_buffer("centres", torch.linspace(0, cutoff, n), persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Return the basis (E, n) of distances (E,) [A]."""
        return torch.exp(-(((distance.unsqueeze(-1) - self.centres) / self.step) ** 2))


class RelativeBasis(nn.Module):
    """Gaussians of the length over the sum of the covalent radii of both atoms: a bond is near 1 for all elements.

    Args:
        n: Number of functions, at equal steps on 0.6 to 2.7, one step wide.
    """

    centres: Tensor
    radii: Tensor

    def __init__(self, n: int = 15) -> None:
        super().__init__()
        self.width, self.step = n, (_FARTHEST - _NEAREST) / (n - 1)
        self.register_buffer("centres", torch.linspace(_NEAREST, _FARTHEST, n), persistent=False)
        self.register_buffer("radii", torch.tensor((1.0, *COVALENT_RADII)), persistent=False)

    def forward(self, batch: CrystalBatch, distance: Tensor) -> Tensor:
        """Return the basis (E, n) of the edges of a batch, of length (E,) [A]."""
        radii = self.radii.index_select(0, batch.numbers)
        relative = distance / (radii.index_select(0, batch.centre) + radii.index_select(0, batch.neighbour))
        return torch.exp(-(((relative.unsqueeze(1) - self.centres) / self.step) ** 2))


def edge_lengths(batch: CrystalBatch) -> Tensor:
    """Return the length of each edge, (E,) [A]."""
    return torch.linalg.vector_norm(batch.vector, dim=1)


def edge_envelope(batch: CrystalBatch, distance: Tensor, delta: float) -> Tensor:
    """Return the smooth-neighbourhood weight of each edge, (E,)."""
    return envelope(distance, batch.radius.index_select(0, batch.centre), delta)


def harmonics(vector: Tensor, l_max: int) -> list[Tensor]:
    """Return the real spherical harmonics of each degree l = 0..l_max, (E, 2l+1) each, component-normalised (e3nn)."""
    from e3nn import o3

    degrees = list(range(l_max + 1))
    values = o3.spherical_harmonics(degrees, vector, normalize=True, normalization="component")
    return list(values.split([2 * degree + 1 for degree in degrees], dim=1))
