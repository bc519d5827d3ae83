"""What heads read: latents of materials, and of their atoms where crystals are read. B materials, N atoms, d width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from crystrata.elements import MAX_ATOMIC_NUMBER
from crystrata.graphs.batch import CrystalBatch
from crystrata.networks.density import mean_over_crystals


@dataclass(frozen=True)
class Latent:
    """Latents of a batch.

    Attributes:
        pooled: Latent of each material, (B, d); of a crystal the mean over its atoms, hence intensive.
        atoms: Latent of each atom, (N, d), invariant; None unless the network reads crystals alone.
        fractions: Atomic fractions, (B, 103), element with atomic number z in column z - 1; None without crystals.
        batch: The crystals that the latents were made from, or None.
    """

    pooled: Tensor
    atoms: Tensor | None = None
    fractions: Tensor | None = None
    batch: CrystalBatch | None = None

    @classmethod
    def of_crystals(cls, atoms: Tensor, batch: CrystalBatch) -> Latent:
        """Return the latents of crystals from those of their atoms, (N, d)."""
        return cls(mean_over_crystals(atoms, batch), atoms, atomic_fractions(batch), batch)

    def crystals(self) -> tuple[Tensor, CrystalBatch]:
        """Return the latents of the atoms and their batch.

        Raises:
            TypeError: The latents are not those of crystals alone.
        """
        if self.atoms is None or self.batch is None:
            raise TypeError("this head reads the atoms of crystals, and the network gives it none")
        return self.atoms, self.batch

    def of_whole_crystals(self, read: Callable[[Tensor, CrystalBatch], Tensor]) -> Tensor:
        """Return what is read of crystals with all their atoms, (B, C); zero where the batch has not brought them.

        Args:
            read: Takes the latents of the atoms of some crystals and their batch, returns a row per crystal.
        """
        atoms, batch = self.crystals()
        whole = batch.whole
        if whole is None:
            return read(atoms, batch)
        found = read(atoms.index_select(0, whole.atoms), whole.batch)
        return found.new_zeros(len(batch), found.shape[1]).index_copy(0, whole.rows, found)


def atomic_fractions(batch: CrystalBatch) -> Tensor:
    """Return the atomic fractions of each crystal, (B, 103)."""
    atoms = functional.one_hot(batch.numbers - 1, MAX_ATOMIC_NUMBER).to(batch.vector.dtype)
    return mean_over_crystals(atoms, batch)
