"""The cutting of batches out of flat arrays, compiled. See `arrays` for the letters."""

from __future__ import annotations

import numpy as np
from numba import types

from crystrata.graphs.arrays import COSINE_SCALE
from crystrata.graphs.compiled import inline, kernel, view


@inline
def _pairs(edges):
    """Return the number of pairs of some edges."""
    return np.int64(edges) * (np.int64(edges) - 1) // 2


@inline
def _pairs_of_one(first, n, pair, t):
    """Write the edge ids of the pairs of the n edges from `first` on, two by two, from position t."""
    for a in range(first, first + n - 1):
        for b in range(a + 1, first + n):
            pair[0, t], pair[1, t] = a, b
            t += 1


@inline
def _copied(source, first, stop, target, at):
    """Copy rows of words to another place."""
    for row in range(stop - first):
        for word in range(source.shape[1]):
            target[at + row, word] = source[first + row, word]


@inline
def _sizes(chosen, atom_offsets, edge_counts, angle_counts, copy_of, angles, distinct):
    """Return how many atoms, edges and pairs the batch has, and how many atoms its crystals have."""
    sizes = np.zeros(4, np.int64)
    for c in chosen:
        if not 0 <= c < len(atom_offsets) - 1:
            raise IndexError("there is no crystal of such a position")
        sizes[3] += atom_offsets[c + 1] - atom_offsets[c]
        for atom in range(atom_offsets[c], atom_offsets[c + 1]):
            if not distinct or copy_of[atom] == atom - atom_offsets[c]:
                sizes[0] += 1
                sizes[1] += edge_counts[atom]
                sizes[2] += _pairs(angle_counts[atom]) * angles
    return sizes


@inline
def _placed(copy_of, distinct, following, place, share):
    """Write which atom of the batch stands for each atom of a crystal, and its share; return the next free place."""
    for a in range(len(copy_of)):
        if distinct and copy_of[a] != a:
            place[a] = place[copy_of[a]]
        else:
            place[a] = following
            following += 1
        share[place[a]] += 1.0 / len(copy_of)
    return following


@kernel(view("int64"), view("int64"), view("int64"), view("int64"), view("bool_"), view("uint8"), view("uint32", 2),
        view("uint16"), view("uint16"), view("uint16"), view("uint32", 2), view("int16"), view("uint16"), types.bool_,
        types.bool_)  # fmt: skip
def cut(
    chosen, atom_offsets, edge_offsets, pair_offsets, orientation_given, numbers, radius, edge_counts, angle_counts,
    neighbour, vector, cosine, copy_of, angles, distinct,
):  # fmt: skip
    """Cut chosen crystals out of flat arrays, in one pass; see `ARRAY_FORMS` for them.

    Radius (N, words) and vector (E, words) are given and returned as words of 32 bits, whatever their precision.
    `angles`: whether pairs and cosines are wanted; `distinct`: whether one atom stands for its copies. Returns the
    fields of a `CrystalBatch`, in their order; and for each atom of the crystals the one of the batch that stands for
    it. An IndexError if there is no such crystal.
    """
    sizes = _sizes(chosen, atom_offsets, edge_counts, angle_counts, copy_of, angles, distinct)
    out_numbers, crystal = np.empty(sizes[0], np.int64), np.empty(sizes[0], np.int64)
    atom_counts, given = np.empty(len(chosen), np.int64), np.empty(len(chosen), np.bool_)
    centre, out_neighbour = np.empty(sizes[1], np.int64), np.empty(sizes[1], np.int64)
    out_vector = np.empty((sizes[1], vector.shape[1]), np.uint32)
    out_radius = np.empty((sizes[0], radius.shape[1]), np.uint32)
    pair, out_cosine = np.empty((2, sizes[2]), np.int64), np.empty(sizes[2], np.float32)
    share, stands_for = np.zeros(sizes[0]), np.empty(sizes[3], np.int64)
    i, e, t, before = 0, 0, 0, 0
    for position in range(len(chosen)):
        c = chosen[position]
        first, edge, cos = atom_offsets[c], edge_offsets[c], pair_offsets[c]
        n, start = atom_offsets[c + 1] - first, i
        place = stands_for[before : before + n]
        of_crystal = _placed(copy_of[first : first + n], distinct, i, place, share)
        for atom in range(first, first + n):
            edges, pairs = np.int64(edge_counts[atom]), _pairs(angle_counts[atom])
            if place[atom - first] == i:
                out_numbers[i], crystal[i] = numbers[atom], position
                _copied(radius, atom, atom + 1, out_radius, i)
                _copied(vector, edge, edge + edges, out_vector, e)
                if angles:
                    _pairs_of_one(e, angle_counts[atom], pair, t)
                    for p in range(pairs):
                        out_cosine[t + p] = np.float32(cosine[cos + p]) / np.float32(COSINE_SCALE)
                    t += pairs
                for step in range(edges):
                    centre[e + step], out_neighbour[e + step] = i, place[neighbour[edge + step]]
                e += edges
                i += 1
            edge += edges
            cos += pairs
        atom_counts[position], given[position] = of_crystal - start, orientation_given[c]
        before += n
    return (out_numbers, crystal, atom_counts, centre, out_neighbour, out_vector, out_radius, pair, out_cosine, given,
            share, stands_for)  # fmt: skip
