"""The plain e3nn network: a `uvu` tensor product on every edge, as NequIP (Batzner et al., 2022) made it common.

The readable reference that the main encoder must match in accuracy and beat in speed. N atoms, E edges, C channels.
"""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

from e3nn import nn as e3nn_nn
from e3nn import o3
from torch import Tensor, nn
from torch.nn import functional

from crystrata.elements import MAX_ATOMIC_NUMBER
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import CrystalBatch
from crystrata.networks.edges import EdgeFeatures
from crystrata.networks.encoders.encoder import StructureEncoder
from crystrata.networks.geometry import TYPICAL_EDGES, BesselBasis


class EdgeProductLayer(nn.Module):
    """Message = neighbour features x Y(edge), weighted by a radial network; sum, linear, gate, self-connection.

    Args:
        irreps_in: Irreps of the atoms' features.
        irreps_out: Irreps after the gate.
        irreps_edge: Irreps of the spherical harmonics.
        n_radial: Width of the radial basis.
    """

    def __init__(self, irreps_in: o3.Irreps, irreps_out: o3.Irreps, irreps_edge: o3.Irreps, n_radial: int) -> None:
        super().__init__()
        scalars = o3.Irreps([(mul, ir) for mul, ir in irreps_out if ir.l == 0])
        vectors = o3.Irreps([(mul, ir) for mul, ir in irreps_out if ir.l > 0])
        gates = o3.Irreps([(mul, "0e") for mul, _ in vectors])
        self.gate = e3nn_nn.Gate(scalars, [functional.silu], gates, [functional.sigmoid] * len(gates), vectors)
        middle, instructions = _paths(irreps_in, irreps_edge, irreps_out)
        self.linear_up = o3.Linear(irreps_in, irreps_in)
        self.product = o3.TensorProduct(
            irreps_in, irreps_edge, middle, instructions, shared_weights=False, internal_weights=False
        )
        self.radial = e3nn_nn.FullyConnectedNet([n_radial, 64, self.product.weight_numel], functional.silu)
        self.linear_down = o3.Linear(middle, self.gate.irreps_in)
        self.self_connection = o3.Linear(irreps_in, self.gate.irreps_in)

    def forward(self, x: Tensor, batch: CrystalBatch, basis: Tensor, harmonics: Tensor) -> Tensor:
        """Return features (N, irreps_out) from features (N, irreps_in), basis (E, n), harmonics (E, irreps_edge)."""
        message = self.product(self.linear_up(x)[batch.neighbour], harmonics, self.radial(basis))
        total = x.new_zeros(len(x), message.shape[1]).index_add(0, batch.centre, message) / sqrt(TYPICAL_EDGES)
        return self.gate(self.linear_down(total) + self.self_connection(x))


def _paths(
    irreps_in: o3.Irreps, irreps_edge: o3.Irreps, irreps_out: o3.Irreps
) -> tuple[o3.Irreps, list[tuple[int, int, int, str, bool]]]:
    """Return the irreps after the product, sorted, and its `uvu` paths."""
    irreps: list[tuple[int, o3.Irrep]] = []
    instructions: list[tuple[int, int, int, str, bool]] = []
    for i, (multiplicity, ir_in) in enumerate(irreps_in):
        for j, (_, ir_edge) in enumerate(irreps_edge):
            for ir in ir_in * ir_edge:
                if ir in irreps_out or ir == o3.Irrep("0e"):
                    instructions.append((i, j, len(irreps), "uvu", True))
                    irreps.append((multiplicity, ir))
    middle, permutation, _ = o3.Irreps(irreps).sort()
    return middle, [(i, j, permutation[k], mode, train) for i, j, k, mode, train in instructions]


class PlainE3NNEncoder(StructureEncoder):
    """Tensor products on edges.

    Args:
        graph: Settings of the neighbourhoods.
        channels: C copies of every degree.
        layers: Layers.
        l_max: Highest degree.
        n_radial: Bessel functions on [0, cutoff].
    """

    invariant = False  # the features of symmetric copies are turned

    def __init__(
        self, graph: GraphSettings, channels: int = 64, layers: int = 3, l_max: int = 2, n_radial: int = 16
    ) -> None:
        super().__init__(graph)
        self.latent_width = 2 * channels
        self.irreps_edge = o3.Irreps.spherical_harmonics(l_max)
        hidden = o3.Irreps([(channels, (degree, (-1) ** degree)) for degree in range(l_max + 1)])
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, channels)
        self.harmonics = o3.SphericalHarmonics(self.irreps_edge, normalize=True, normalization="component")
        self.edges = EdgeFeatures(BesselBasis(n_radial, graph.cutoff), graph)
        steps = [o3.Irreps(f"{channels}x0e"), *[hidden] * (layers - 1), o3.Irreps(f"{channels}x0e")]
        self.layers = nn.ModuleList(
            EdgeProductLayer(before, after, self.irreps_edge, n_radial) for before, after in pairwise(steps)
        )
        self.readout = nn.Sequential(nn.Linear(channels, self.latent_width), nn.SiLU())

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Return the latent of each atom, (N, d)."""
        basis, weight = self.edges(batch)
        harmonics = weight * self.harmonics(batch.vector)
        x = self.embedding(batch.numbers)
        for layer in self.layers:
            x = layer(x, batch, basis, harmonics)
        return self.readout(x)
