"""What every encoder is: a batch of crystals in, latents of the atoms out. B crystals, N atoms, d latent width."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from crystrata.elements import MAX_ATOMIC_NUMBER
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import CrystalBatch
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
        return cls(atoms, mean_over_crystals(atoms, batch), atomic_fractions(batch), batch)

    def of_whole_crystals(self, read: Callable[[Tensor, CrystalBatch], Tensor]) -> Tensor:
        """Return what is read of crystals with all their atoms, (B, C); zero where the batch has not brought them.

        Args:
            read: Takes the latents of the atoms of some crystals and their batch, returns a row per crystal.
        """
        whole = self.batch.whole
        if whole is None:
            return read(self.atoms, self.batch)
        found = read(self.atoms.index_select(0, whole.atoms), whole.batch)
        return found.new_zeros(len(self.batch), found.shape[1]).index_copy(0, whole.rows, found)


def atomic_fractions(batch: CrystalBatch) -> Tensor:
    """Return the atomic fractions of each crystal, (B, 103)."""
    atoms = functional.one_hot(batch.numbers - 1, MAX_ATOMIC_NUMBER).to(batch.vector.dtype)
    return mean_over_crystals(atoms, batch)


class Encoder(nn.Module):
    """Base of all encoders.

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
