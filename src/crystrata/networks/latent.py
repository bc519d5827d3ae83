"""What heads read: latents of materials and of their atoms, from the latents of the encoders.

The latent of a composition is corrected by that of its crystal where there is one:

    g = m sigmoid( W [h_c, h_g] + b ),    h = h_c + g h_g

m is 1 where there is a graph. In training, m is set to 0 for some samples (modality dropout), so that the heads learn
to do without. B materials, N atoms, d latent width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from crystrata.elements import MAX_ATOMIC_NUMBER
from crystrata.errors import UsageError, unknown_name
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


STAGES = ("none", "tanh", "deposit")


class GatedFusion(nn.Module):
    """Gated sum of a composition latent and a graph latent.

    Args:
        width: d, of both.
        modality_dropout: Fraction of samples that are trained without their graph.

    Raises:
        UsageError: The fraction is not in [0, 1).
    """

    def __init__(self, width: int, modality_dropout: float = 0.3) -> None:
        super().__init__()
        if not 0 <= modality_dropout < 1:
            raise UsageError(f"modality dropout is a fraction from 0 to below 1, not {modality_dropout}")
        self.modality_dropout = modality_dropout
        self.gate = nn.Linear(2 * width, width)

    def forward(self, composition: Tensor, graph: Tensor, has_graph: Tensor) -> Tensor:
        """Return the joint latents, (B, d).

        Args:
            composition: h_c, (B, d).
            graph: h_g, (B, d); anything where there is no graph.
            has_graph: True where there is, (B,).
        """
        used = has_graph
        if self.training:
            used = used & (torch.rand(used.shape, device=used.device) >= self.modality_dropout)
        graph = graph.where(used.unsqueeze(1), 0.0)
        return composition + torch.sigmoid(self.gate(torch.cat([composition, graph], dim=1))) * graph


class LatentStage(nn.Module):
    """h = z (`none`), tanh(z) (`tanh`) or tanh(W z + b) (`deposit`). Inverse design needs one of the bounded ones.

    Args:
        kind: `none`, `tanh` or `deposit`.
        width: d, width of the encoder's latent.
        deposit_width: Width of h with `deposit`; d if not given.

    Attributes:
        latent_width: Width of h.

    Raises:
        UsageError: The kind is unknown, or a width is given to a stage that keeps it.
    """

    def __init__(self, kind: str, width: int, deposit_width: int | None = None) -> None:
        super().__init__()
        if kind not in STAGES:
            raise unknown_name("latent stage", kind, STAGES)
        if deposit_width not in (None, width) and kind != "deposit":
            raise UsageError(f"latent stage {kind} keeps the width {width}; only deposit can make it {deposit_width}")
        self.kind = kind
        self.latent_width = deposit_width or width
        self.deposit = nn.Linear(width, self.latent_width) if kind == "deposit" else nn.Identity()

    def forward(self, z: Tensor) -> Tensor:
        """Return h (B, latent_width) of z (B, d)."""
        return z if self.kind == "none" else torch.tanh(self.deposit(z))
