"""What every encoder is: crystals, or descriptors of compositions, in; latents out.

B materials, N atoms, D descriptor width, d latent width.
"""

from __future__ import annotations

import inspect

from torch import Tensor, nn

from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import CrystalBatch


class StructureEncoder(nn.Module):
    """Base of the encoders that read crystals.

    Attributes:
        latent_width: d, the width of the latents.
        needs_angles: Whether batches must bring the cached angles along.
        invariant: Whether all features are, so that an atom may stand for its symmetric copies.
    """

    latent_width: int
    needs_angles: bool = False
    invariant: bool = True

    def __init__(self, graph: GraphSettings) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Return the latent of each atom, (N, d), invariant under rotation, reflection and translation."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    @classmethod
    def setting_names(cls) -> list[str]:
        """Names of the settings that the constructor takes besides the graph settings."""
        return list(inspect.signature(cls).parameters)[1:]


class CompositionEncoder(nn.Module):
    """Base of the encoders that read a descriptor of a composition, or any other table of numbers.

    Attributes:
        input_width: D.
        latent_width: d.
    """

    input_width: int
    latent_width: int

    def forward(self, x: Tensor) -> Tensor:
        """Return latents (B, d) of descriptors (B, D)."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    @classmethod
    def setting_names(cls) -> list[str]:
        """Names of the settings that the constructor takes."""
        return list(inspect.signature(cls).parameters)
