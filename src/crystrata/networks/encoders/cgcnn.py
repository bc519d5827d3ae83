"""The crystal graph convolutional network (Xie and Grossman, PRL 120, 145301, 2018) on smooth neighbourhoods.

    z_ij = v_i (+) v_j (+) u_ij
    v_i <- softplus( v_i + LayerNorm( sum_j f_ij sigmoid(z_ij W_f + b_f) * softplus(z_ij W_s + b_s) ) )

f is the envelope. The product z W is taken apart, v_i W_1 + v_j W_2 + u_ij W_3, so that wide products run over atoms;
the norm is over channels, not over the batch. N atoms, E edges, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import CrystalBatch
from crystrata.networks.density import NeighbourSum
from crystrata.networks.edges import AngleForm, EdgeFeatures
from crystrata.networks.encoders.encoder import StructureEncoder
from crystrata.networks.geometry import GaussianBasis
from crystrata.networks.layers import ElementEmbedding


class GatedConvolution(nn.Module):
    """One convolution of CGCNN.

    Args:
        channels: C.
        edge_width: Width of the edge features u_ij.
    """

    def __init__(self, channels: int, edge_width: int) -> None:
        super().__init__()
        self.centre = nn.Linear(channels, 2 * channels)
        self.neighbour = nn.Linear(channels, 2 * channels, bias=False)
        self.edge = nn.Linear(edge_width, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, v: Tensor, u: Tensor, batch: CrystalBatch, neighbour_sum: NeighbourSum) -> Tensor:
        """Return new atom features (N, C) from atom features (N, C) and edge features (E, width)."""
        z = self.centre(v).index_select(0, batch.centre) + self.neighbour(v).index_select(0, batch.neighbour)
        gate, core = (z + self.edge(u)).chunk(2, dim=1)
        message = torch.sigmoid(gate) * functional.softplus(core)
        return functional.softplus(v + self.norm(neighbour_sum(message)[0]))


class CGCNNEncoder(StructureEncoder):
    """CGCNN: element embedding and gated convolutions; the mean over atoms is taken by the network.

    Args:
        graph: Settings of the neighbourhoods.
        channels: C, also the latent width.
        layers: Convolutions.
        n_radial: Gaussians on [0, cutoff].
        angles: Where angle features come from; the paper has none.
    """

    def __init__(
        self, graph: GraphSettings, channels: int = 64, layers: int = 3, n_radial: int = 41, angles: AngleForm = "none"
    ) -> None:
        super().__init__(graph)
        self.latent_width = channels
        self.needs_angles = angles == "cached"
        self.embedding = ElementEmbedding(channels)
        self.edges = EdgeFeatures(GaussianBasis(n_radial, graph.cutoff), graph, angles)
        self.convolutions = nn.ModuleList(GatedConvolution(channels, self.edges.width) for _ in range(layers))

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Return the latent of each atom, (N, C)."""
        u, weight = self.edges(batch)
        neighbour_sum = NeighbourSum(weight, batch.centre, len(batch.numbers))
        v = self.embedding(batch.numbers)
        for convolution in self.convolutions:
            v = convolution(v, u, batch, neighbour_sum)
        return v
