"""The cutting of batches out of flat arrays, compiled. See `arrays` for the letters."""

from __future__ import annotations

import numpy as np
from numba import types

from crystrata.graphs.arrays import COSINE_SCALE
from crystrata.graphs.compiled import inline, kernel, view


@inline
def _pairs_of_one(first, n, pair, t):
    """Write the edge ids of the pairs of the n edges from `first` on, two by two, from position t; return the next."""
    for a in range(first, first + n - 1):
        for b in range(a + 1, first + n):
            pair[0, t], pair[1, t] = a, b
            t += 1
    return t


@inline
def _copied(source, first, stop, target, at):
    """Copy rows of words to another place."""
    for row in range(stop - first):
        for word in range(source.shape[1]):
            target[at + row, word] = source[first + row, word]


@kernel(view("int64"), view("int64"), view("int64"), view("int64"), view("bool_"), view("uint8"), view("uint32", 2),
        view("uint16"), view("uint16"), view("uint16"), view("uint32", 2), view("int16"), types.bool_)  # fmt: skip
def cut(
    chosen, atom_offsets, edge_offsets, pair_offsets, orientation_given, numbers, radius, edge_counts, angle_counts,
    neighbour, vector, cosine, angles,
):  # fmt: skip
    """Cut chosen crystals out of flat arrays, in one pass.

    Args:
        chosen: Positions of crystals.
        atom_offsets: First atom of each crystal; so for edges and pairs.
        edge_offsets: See there.
        pair_offsets: See there.
        orientation_given: See `ARRAY_FORMS` for this and the others.
        numbers: See there.
        radius: See there; as words of 32 bits, (N, words), whatever the precision.
        edge_counts: See there.
        angle_counts: See there.
        neighbour: See there.
        vector: See there; as words, (E, words).
        cosine: See there.
        angles: Whether pairs and cosines are wanted.

    Returns:
        The fields of a `CrystalBatch`, in their order; radius and vector as words.

    Raises:
        IndexError: There is no such crystal.
    """
    sizes = np.zeros(3, np.int64)
    for c in chosen:
        if not 0 <= c < len(orientation_given):
            raise IndexError("there is no crystal of such a position")
        sizes[0] += atom_offsets[c + 1] - atom_offsets[c]
        sizes[1] += edge_offsets[c + 1] - edge_offsets[c]
        sizes[2] += (pair_offsets[c + 1] - pair_offsets[c]) * angles
    out_numbers, crystal = np.empty(sizes[0], np.int64), np.empty(sizes[0], np.int64)
    atom_counts, given = np.empty(len(chosen), np.int64), np.empty(len(chosen), np.bool_)
    centre, out_neighbour = np.empty(sizes[1], np.int64), np.empty(sizes[1], np.int64)
    out_vector = np.empty((sizes[1], vector.shape[1]), np.uint32)
    out_radius = np.empty((sizes[0], radius.shape[1]), np.uint32)
    pair, out_cosine = np.empty((2, sizes[2]), np.int64), np.empty(sizes[2], np.float32)
    i, e, t = 0, 0, 0
    for position in range(len(chosen)):
        c = chosen[position]
        first, edge, stop = atom_offsets[c], edge_offsets[c], edge_offsets[c + 1]
        atom_counts[position], given[position] = atom_offsets[c + 1] - first, orientation_given[c]
        _copied(radius, first, atom_offsets[c + 1], out_radius, i)
        _copied(vector, edge, stop, out_vector, e)
        for n in range(stop - edge):
            out_neighbour[e + n] = i + neighbour[edge + n]
        if angles:
            for n in range(pair_offsets[c + 1] - pair_offsets[c]):
                out_cosine[t + n] = np.float32(cosine[pair_offsets[c] + n]) / np.float32(COSINE_SCALE)
        for atom in range(first, atom_offsets[c + 1]):
            out_numbers[i], crystal[i] = numbers[atom], position
            if angles:
                t = _pairs_of_one(e, angle_counts[atom], pair, t)
            for _ in range(edge_counts[atom]):
                centre[e] = i
                e += 1
            i += 1
    return out_numbers, crystal, atom_counts, centre, out_neighbour, out_vector, out_radius, pair, out_cosine, given
