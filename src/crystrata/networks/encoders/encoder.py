"""What every encoder is: a batch of crystals in, latents of the atoms out. B crystals, N atoms, d latent width."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from crystrata.elements import MAX_ATOMIC_NUMBER
from crystrata.graphs.batch import CrystalBatch
from crystrata.neighbourhood import GraphSettings
from crystrata.networks.density import mean_over_crystals


@dataclass(frozen=True)
class Latent:
    """What heads read.

    Attributes:
        atoms: Latent of each atom, (N, d), invariant.
        crystal: Latent of each crystal, (B, d): the mean over its atoms, hence intensive.
        fractions: Atomic fractions of each crystal, (B, 103), element with atomic number z in column z - 1.
        batch: The batch the latents were made from.
    """

    atoms: Tensor
    crystal: Tensor
    fractions: Tensor
    batch: CrystalBatch

    @classmethod
    def of(cls, atoms: Tensor, batch: CrystalBatch) -> Latent:
        """Return the latents of a batch from those of its atoms, (N, d)."""
        crystal = mean_over_crystals(atoms, batch.crystal, batch.atom_counts)
        return cls(atoms, crystal, atomic_fractions(batch), batch)


def atomic_fractions(batch: CrystalBatch) -> Tensor:
    """Return the atomic fractions of each crystal, (B, 103)."""
    atoms = functional.one_hot(batch.numbers - 1, MAX_ATOMIC_NUMBER).to(batch.vector.dtype)
    return mean_over_crystals(atoms, batch.crystal, batch.atom_counts)


class Encoder(nn.Module):
    """Base of all encoders.

    Attributes:
        latent_width: d, the width of the latents.
        needs_angles: Whether batches must bring the cached angles along.
    """

    latent_width: int
    needs_angles: bool = False

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
