"""The main encoder: an E(3)-equivariant density on the edges, products on the nodes.

    s_j      = W h_j
    A_i,lm   = sum_j f_ij R_l(r_ij) s_j Y_lm(ij)              density: the only work done per edge
    A        = equivariant RMS norm of A
    p_i,l    = sum_m (W' A_i,lm) (W'' A_i,lm)                 node product, order 2: holds the angles at i
    h_i     <- h_i + MLP[h_i, A_i,00, p_i,0..l_max]

Products of densities carry the three-body angles at a cost linear in the neighbours (the density trick of ACE, Drautz
2019, and MACE, Batatia 2022). e3nn supplies the spherical harmonics. N atoms, E edges, C channels.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

from crystrata.elements import MAX_ATOMIC_NUMBER
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import CrystalBatch
from crystrata.networks.density import NeighbourSum
from crystrata.networks.edges import AngleForm, EdgeFeatures
from crystrata.networks.encoders.encoder import StructureEncoder
from crystrata.networks.geometry import TYPICAL_EDGES, BesselBasis, harmonics
from crystrata.networks.layers import ElementEmbedding


class EquivariantNorm(nn.Module):
    """Divide the densities of an atom by their root mean square over all degrees, then scale each channel.

    One common divisor keeps the ratio between degrees, so that a component that symmetry makes zero is not blown up.

    Args:
        degrees: l_max + 1.
        channels: C.
    """

    def __init__(self, degrees: int, channels: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(degrees, channels))
        self.epsilon = epsilon

    def forward(self, densities: list[Tensor]) -> list[Tensor]:
        """Return normed densities, one (2l+1, N, C) per degree."""
        power = torch.stack([part.square().mean(dim=(0, 2)) for part in densities]).mean(0)  # (N,)
        inverse = torch.rsqrt(power + self.epsilon).unsqueeze(1)
        return [part * (inverse * scale) for part, scale in zip(densities, self.scale, strict=True)]


class NodeProductLayer(nn.Module):
    """One layer: densities over the neighbourhood, their products, an update of the atom's scalars.

    Args:
        channels: C.
        l_max: Highest degree of the densities.
        edge_width: Width of the edge features that weigh the neighbours.
        radial_hidden: Hidden width of the radial network.
    """

    def __init__(self, channels: int, l_max: int, edge_width: int, radial_hidden: int) -> None:
        super().__init__()
        degrees = l_max + 1
        self.degrees = degrees
        self.source = nn.Linear(channels, channels, bias=False)
        self.radial = nn.Sequential(
            nn.Linear(edge_width, radial_hidden), nn.SiLU(), nn.Linear(radial_hidden, degrees * channels)
        )
        self.norm = EquivariantNorm(degrees, channels)
        self.factors = nn.ModuleList(nn.Linear(channels, 2 * channels, bias=False) for _ in range(degrees))
        self.product_norm = nn.LayerNorm((degrees + 2) * channels)
        self.update = nn.Sequential(
            nn.Linear((degrees + 2) * channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, h: Tensor, edge: Tensor, batch: CrystalBatch, sums: list[NeighbourSum]) -> Tensor:
        """Return new scalars (N, C) from scalars (N, C) and edge features (E, width)."""
        source = self.source(h).index_select(0, batch.neighbour)  # (E, C)
        weights = self.radial(edge).chunk(self.degrees, dim=1)  # (E, C) per degree
        densities = [total(weight * source) / sqrt(TYPICAL_EDGES) for total, weight in zip(sums, weights, strict=True)]
        densities = self.norm(densities)
        invariants = [h, densities[0][0]]
        for density, factor in zip(densities, self.factors, strict=True):
            left, right = factor(density).chunk(2, dim=2)
            invariants.append((left * right).sum(0) / sqrt(len(density)))
        return h + self.update(self.product_norm(torch.cat(invariants, dim=1)))


class E3NNEncoder(StructureEncoder):
    """The node-product network.

    Args:
        graph: Settings of the neighbourhoods.
        channels: C.
        layers: Layers.
        l_max: Highest degree.
        n_radial: Bessel functions on [0, cutoff].
        radial_hidden: Hidden width of the radial networks.
        latent_width: d; twice the channels if not given.
        angles: Extra angle features on the edges; the node products already see the angles.
        relative: Whether edges tell their length over the radii of their atoms.
        element_properties: Whether atoms begin with the physical properties of their element.
    """

    def __init__(
        self,
        graph: GraphSettings,
        channels: int = 64,
        layers: int = 3,
        l_max: int = 2,
        n_radial: int = 10,
        radial_hidden: int = 64,
        latent_width: int | None = None,
        angles: AngleForm = "none",
        relative: bool = True,
        element_properties: bool = True,
    ) -> None:
        super().__init__(graph)
        self.l_max = l_max
        self.latent_width = latent_width or 2 * channels
        self.needs_angles = angles == "cached"
        self.embedding = (
            ElementEmbedding(channels) if element_properties else nn.Embedding(MAX_ATOMIC_NUMBER + 1, channels)
        )
        self.edges = EdgeFeatures(BesselBasis(n_radial, graph.cutoff), graph, angles, relative=relative)
        width = self.edges.width
        self.layers = nn.ModuleList(NodeProductLayer(channels, l_max, width, radial_hidden) for _ in range(layers))
        self.readout = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, self.latent_width), nn.SiLU())

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Return the latent of each atom, (N, d)."""
        edge, weight = self.edges(batch)
        sums = [
            NeighbourSum(weight * factor, batch.centre, len(batch.numbers))
            for factor in harmonics(batch.vector, self.l_max)
        ]
        h = self.embedding(batch.numbers)
        for layer in self.layers:
            h = layer(h, edge, batch, sums)
        return self.readout(h)
