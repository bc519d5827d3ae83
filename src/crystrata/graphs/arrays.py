"""Graphs of many crystals as flat arrays: the one form that builder, store and batches share.

B crystals, N atoms, E edges, T angle pairs. Edges run from neighbour to centre and are sorted by centre, then distance;
the angle pairs of a centre are its `angle_counts` nearest edges taken two by two in the order (0,1), (0,2), ..., (1,2),
..., so that their edge ids need no storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class ArrayForm:
    """Type of one flat array: element type, shape of one row, what a row stands for, and whether it can be rebuilt."""

    dtype: str
    row: tuple[int, ...]
    per: str  # crystal, atom, edge, pair
    derived: bool = False


ARRAY_FORMS: dict[str, ArrayForm] = {
    "source_row": ArrayForm("int32", (), "crystal"),
    "lattice": ArrayForm("float64", (3, 3), "crystal"),
    "orientation_given": ArrayForm("bool", (), "crystal"),
    "atom_counts": ArrayForm("int32", (), "crystal"),
    "numbers": ArrayForm("uint8", (), "atom"),
    "frac": ArrayForm("float64", (3,), "atom"),
    "radius": ArrayForm("float32", (), "atom"),
    "edge_counts": ArrayForm("uint16", (), "atom"),
    "angle_counts": ArrayForm("uint16", (), "atom"),
    "neighbour": ArrayForm("uint16", (), "edge"),
    "image": ArrayForm("int8", (3,), "edge"),
    "vector": ArrayForm("float32", (3,), "edge", derived=True),
    "cosine": ArrayForm("int16", (), "pair", derived=True),
    "copy_of": ArrayForm("uint16", (), "atom", derived=True),
}

STORED_ARRAYS = tuple(name for name, form in ARRAY_FORMS.items() if not form.derived)
"""Arrays that carry the information; `derive` computes the others from them."""

COSINE_SCALE = 32767.0
"""An int16 cosine is round(cos * COSINE_SCALE): an error of at most 1.6e-5."""


@dataclass(frozen=True)
class GraphArrays:
    """Flat arrays of the graphs of B crystals, in memory or mapped from a store; see `ARRAY_FORMS` for the types."""

    source_row: np.ndarray
    lattice: np.ndarray
    orientation_given: np.ndarray
    atom_counts: np.ndarray
    numbers: np.ndarray
    frac: np.ndarray
    radius: np.ndarray
    edge_counts: np.ndarray
    angle_counts: np.ndarray
    neighbour: np.ndarray
    image: np.ndarray
    vector: np.ndarray
    cosine: np.ndarray
    copy_of: np.ndarray

    def __len__(self) -> int:
        return len(self.atom_counts)

    @cached_property
    def atom_offsets(self) -> np.ndarray:
        """First atom of each crystal, (B + 1,) int64."""
        return offsets(self.atom_counts)

    @cached_property
    def edge_offsets(self) -> np.ndarray:
        """First edge of each crystal, (B + 1,) int64."""
        return offsets(self.edge_counts)[self.atom_offsets]

    @cached_property
    def pair_offsets(self) -> np.ndarray:
        """First angle pair of each crystal, (B + 1,) int64."""
        counts = self.angle_counts.astype(np.int64)
        return offsets(counts * (counts - 1) // 2)[self.atom_offsets]

    @cached_property
    def radius_words(self) -> np.ndarray:
        """The ranges as words of 32 bits, (N, words), whatever their precision."""
        return self.radius.reshape(-1, 1).view(np.uint32)

    @cached_property
    def vector_words(self) -> np.ndarray:
        """The vectors as words of 32 bits, (E, words), whatever their precision."""
        return self.vector.view(np.uint32)


def offsets(counts: np.ndarray) -> np.ndarray:
    """Return the running start of blocks of the given sizes, (n + 1,) int64."""
    result = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=result[1:])
    return result


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the concatenation of `arange(start, start + count)` over all blocks, (sum of counts,) int64."""
    counts = counts.astype(np.int64)
    return np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


def derive(stored: dict[str, np.ndarray]) -> GraphArrays:
    """Complete stored arrays by what follows from them by arithmetic: vectors, angles, and copies of atoms."""
    from crystrata.graphs.derived_kernels import first_copies, vectors_and_cosines

    names = ("lattice", "atom_counts", "frac", "edge_counts", "angle_counts", "neighbour", "image")
    vector, cosine = vectors_and_cosines(*(stored[name] for name in names))
    invariants = ("atom_counts", "numbers", "radius", "edge_counts", "neighbour")
    copy_of = first_copies(*(stored[name] for name in invariants), vector)
    return GraphArrays(**stored, vector=vector, cosine=cosine, copy_of=copy_of)
