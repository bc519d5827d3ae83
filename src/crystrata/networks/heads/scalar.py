"""A scalar property: two dense layers, absolute error on the standardised scale."""

from __future__ import annotations

from torch import Tensor, nn

from crystrata.datasets.labelled_batch import Components
from crystrata.graph_settings import GraphSettings
from crystrata.networks.density import mean_over_crystals
from crystrata.networks.encoders.encoder import Latent
from crystrata.networks.heads.head import Head
from crystrata.properties import Property


class ScalarHead(Head):
    """Multilayer perceptron with a linear output, on the atoms of an additive property, else on the whole crystal.

    An energy is a sum over atoms: its perceptron reads each atom, and the mean is taken last.

    Args:
        record: The property.
        width: d, width of the latents.
        hidden: Width of the hidden layer.
        graph: Settings of the neighbourhoods (not read: latents suffice).
    """

    def __init__(self, record: Property, width: int, hidden: int, graph: GraphSettings) -> None:
        super().__init__(record, width, hidden, graph)
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, latent: Latent) -> Tensor:
        """Return the standardised value of each crystal, (B,)."""
        if self.record.additive:
            return mean_over_crystals(self.layers(latent.atoms), latent.batch).squeeze(1)
        return self.layers(latent.crystal).squeeze(1)

    def loss(
        self, output: Tensor, latent: Latent, target: Tensor, mask: Tensor, components: Components | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed absolute error of known labels and their count; fixed shapes, no branch on the data."""
        wanted = self.scaling.standardise(target.where(mask, 0.0), latent.fractions)
        return ((output - wanted).abs() * mask).sum(), mask.sum()

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return the value in physical units, (B,)."""
        value = self.scaling.restore(output, latent.fractions)
        return value if self.record.lower is None else value.clamp(min=self.record.lower)
