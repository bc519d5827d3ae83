"""The crystals that every worker receives, as plain arrays in one .npz: a peer's environment needs only numpy.

B crystals, N atoms, E edges, T angle pairs. The edges are the smooth neighbourhoods of Crystrata's graphs, so that a
peer that takes edges computes on the same ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Sample:
    """Crystals with their graphs, flat.

    Attributes:
        lattice: Lattice vectors as rows, (B, 3, 3) float64 [A].
        energy: Formation energy of each crystal, (B,) [eV/atom].
        atom_counts: (B,).
        numbers: Atomic numbers, (N,).
        frac: Fractional coordinates in the cell, (N, 3) float64.
        radius: Range R_i of each atom, (N,) [A].
        edge_counts: Edges of each atom, (N,); the edges of an atom are sorted by length.
        neighbour: Neighbour of each edge, an atom of the same crystal counted from 0, (E,).
        image: Lattice translation of the neighbour, (E, 3).
        vector: From centre to neighbour, (E, 3) float32 [A].
        pair_counts: Angle pairs of each crystal, (B,).
        pair: The two edges of each angle pair, counted from 0 within the crystal, (T, 2).
        cosine: Cosine of each angle, (T,) float32.
    """

    lattice: np.ndarray
    energy: np.ndarray
    atom_counts: np.ndarray
    numbers: np.ndarray
    frac: np.ndarray
    radius: np.ndarray
    edge_counts: np.ndarray
    neighbour: np.ndarray
    image: np.ndarray
    vector: np.ndarray
    pair_counts: np.ndarray
    pair: np.ndarray
    cosine: np.ndarray

    def __len__(self) -> int:
        return len(self.atom_counts)

    def save(self, path: Path) -> None:
        """Write the arrays."""
        np.savez(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> Sample:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**arrays)

    def split(self) -> list[Sample]:
        """Return each crystal as a sample of its own."""
        atoms = np.cumsum(self.atom_counts)[:-1]
        edges_per_crystal = np.add.reduceat(self.edge_counts, np.concatenate([[0], atoms]))
        edges, pairs = np.cumsum(edges_per_crystal)[:-1], np.cumsum(self.pair_counts)[:-1]
        crystals = np.arange(1, len(self))
        cuts = {"lattice": crystals, "energy": crystals, "atom_counts": crystals, "pair_counts": crystals,
                "numbers": atoms, "frac": atoms, "radius": atoms, "edge_counts": atoms,
                "neighbour": edges, "image": edges, "vector": edges, "pair": pairs, "cosine": pairs}  # fmt: skip
        parts = {name: np.split(getattr(self, name), cut) for name, cut in cuts.items()}
        return [Sample(**{name: part[row] for name, part in parts.items()}) for row in range(len(self))]

    def first(self, count: int) -> Sample:
        """Return the first crystals."""
        return join(self.split()[:count])

    def batches(self, size: int) -> list[Sample]:
        """Return the crystals in batches, in order."""
        single = self.split()
        return [join(single[start : start + size]) for start in range(0, len(single), size)]

    @property
    def crystal(self) -> np.ndarray:
        """Crystal of each atom, (N,)."""
        return np.repeat(np.arange(len(self)), self.atom_counts)

    @property
    def centre(self) -> np.ndarray:
        """Centre of each edge, an atom of the whole sample, (E,)."""
        return np.repeat(np.arange(len(self.numbers)), self.edge_counts)

    @property
    def neighbour_in_sample(self) -> np.ndarray:
        """Neighbour of each edge, an atom of the whole sample, (E,)."""
        starts = np.cumsum(self.atom_counts) - self.atom_counts
        return self.neighbour + starts[self.crystal[self.centre]]

    @property
    def positions(self) -> np.ndarray:
        """Cartesian coordinates, (N, 3) float64 [A]."""
        return np.einsum("ni,nij->nj", self.frac, self.lattice[self.crystal])

    @property
    def shift(self) -> np.ndarray:
        """Cartesian lattice translation of each edge's neighbour, (E, 3) float64 [A]."""
        return np.einsum("ei,eij->ej", self.image.astype(float), self.lattice[self.crystal[self.centre]])

    @property
    def edges_per_atom(self) -> float:
        """Mean number of edges of an atom."""
        return len(self.neighbour) / len(self.numbers)


def join(parts: list[Sample]) -> Sample:
    """Return one sample of all crystals of the parts."""
    names = Sample.__dataclass_fields__
    return Sample(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
