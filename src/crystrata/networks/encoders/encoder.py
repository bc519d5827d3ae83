"""What every encoder is: a batch of crystals in, latents out. B crystals, N atoms, C channels, d latent width."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from torch import Tensor, nn

from crystrata.graphs.batch import CrystalBatch
from crystrata.neighbourhood import GraphSettings


@dataclass(frozen=True)
class Latent:
    """What heads read.

    Attributes:
        crystal: Latent of each crystal, (B, d), invariant and intensive.
        fractions: Atomic fractions of each crystal, (B, 103), element with atomic number z in column z - 1.
        batch: The batch the latents were made from.
    """

    crystal: Tensor
    fractions: Tensor
    batch: CrystalBatch


class Encoder(nn.Module):
    """Base of all encoders.

    Attributes:
        latent_width: d, the width of the crystal latent.
        needs_angles: Whether batches must bring the cached angles along.
    """

    latent_width: int
    needs_angles: bool = False

    def __init__(self, graph: GraphSettings) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Return the latent of each crystal, (B, d)."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    @classmethod
    def setting_names(cls) -> list[str]:
        """Names of the settings that the constructor takes besides the graph settings."""
        return list(inspect.signature(cls).parameters)[1:]
