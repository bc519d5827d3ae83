"""What every head is: it reads latents, gives a masked loss sum and count, and predicts in physical units."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from crystrata.datasets.labelled_batch import Components
from crystrata.graph_settings import GraphSettings
from crystrata.networks.encoders.encoder import Latent
from crystrata.networks.scaling import TargetScaling
from crystrata.properties import Property


class Head(nn.Module):
    """Base of all heads.

    Args:
        record: The property; its transform, bounds and baseline are read from here.
        width: d, width of the latents.
        hidden: Width of hidden layers.
        graph: Settings of the neighbourhoods.

    Attributes:
        reads_whole_crystals: Whether it needs all atoms, also where one could stand for its symmetric copies.
        scaling: Between network values and physical values; fitted on training rows, part of the saved model.
    """

    reads_whole_crystals: ClassVar[bool] = False

    def __init__(self, record: Property, width: int, hidden: int, graph: GraphSettings) -> None:
        super().__init__()
        self.record = record
        self.scaling = TargetScaling(record)

    def forward(self, latent: Latent) -> Tensor:
        """Return the network's output for each crystal, (B, ...); its form is the head's own."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def loss(
        self, output: Tensor, latent: Latent, target: Tensor, mask: Tensor, components: Components | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the loss sum and the count of known labels.

        Args:
            output: Result of `forward`.
            latent: What the output was made from.
            target: Labels in physical units, (B,); anything where masked.
            mask: True where the label is known, (B,).
            components: Labels of the components of a tensor property.
        """
        raise TypeError(f"{type(self).__name__} defines no loss")

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return the prediction in physical units, (B,), within the property's bounds."""
        raise TypeError(f"{type(self).__name__} defines no predict")

    @property
    def detail_titles(self) -> tuple[str, ...]:
        """Titles of the further columns of `details`; none unless the head has more to say than one number."""
        return ()

    def details(self, output: Tensor, latent: Latent) -> dict[str, Tensor]:
        """Return the further predicted columns, title -> (B,), in the order of `detail_titles`."""
        return {}
