"""What every head is: it reads a latent, gives a masked loss sum and count, and predicts in physical units."""

from __future__ import annotations

from torch import Tensor, nn

from crystrata.networks.encoders.encoder import Latent
from crystrata.networks.scaling import TargetScaling
from crystrata.properties import Property


class Head(nn.Module):
    """Base of all heads.

    Args:
        record: The property; its transform, bounds and baseline are read from here.

    Attributes:
        scaling: Between network values and physical values; fitted on training rows, part of the saved model.
    """

    def __init__(self, record: Property) -> None:
        super().__init__()
        self.record = record
        self.scaling = TargetScaling(record)

    def forward(self, latent: Latent) -> Tensor:
        """Return the network value of each crystal, (B,)."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def loss(self, output: Tensor, latent: Latent, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss sum and the count of known labels.

        Args:
            output: Result of `forward`, (B,).
            latent: What the output was made from.
            target: Labels in physical units, (B,); anything where masked.
            mask: True where the label is known, (B,).
        """
        raise TypeError(f"{type(self).__name__} defines no loss")

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return the prediction in physical units, (B,), within the property's bounds."""
        raise TypeError(f"{type(self).__name__} defines no predict")
