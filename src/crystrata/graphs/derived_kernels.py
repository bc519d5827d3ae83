"""What follows from stored arrays by arithmetic, compiled: vectors, angles, and copies of atoms. N atoms, E edges.

Symmetric copies of an atom have the same distances, angles and neighbours, so every invariant feature of theirs is the
same: one of them stands for all. They are found by colour refinement (Weisfeiler and Leman, 1968) with real numbers: an
atom's colour starts as its element, and

    A_lm,k = sum_j f_ij (3 A / r_ij)^k c_j,k Y_lm(ij),    c_i,k <- c_i,k / 2 + A_00,k / 10 + sum_l A_l,k . A_l,k+1 / 50

is repeated until it splits no class any more; f_ij = (1 - (r_ij / R_i)^2)^3, l = 0..2, k = 1..3. A colour is continuous
in the positions, so that a class is a matter of tolerance and not of rounding.
"""

from __future__ import annotations

import numpy as np

from crystrata.graphs.arrays import COSINE_SCALE
from crystrata.graphs.compiled import inline, kernel, view

_STORED = (
    view("float64", 3), view("int32"), view("float64", 2), view("uint16"), view("uint16"), view("uint16"),
    view("int8", 2),
)  # fmt: skip


@inline
def _pairs(counts):
    """Return the number of angle pairs."""
    pairs = 0
    for count in counts:
        pairs += np.int64(count) * (np.int64(count) - 1) // 2
    return pairs


@inline
def _cosines(unit, n, cosine, first):
    """Write the fixed-point cosines between the unit vectors (3, n), two by two, from position `first`."""
    for a in range(n - 1):
        x, y, z = unit[0, a], unit[1, a], unit[2, a]
        for b in range(a + 1, n):
            c = x * unit[0, b] + y * unit[1, b] + z * unit[2, b]
            cosine[first + b - a - 1] = np.int16(np.rint(min(max(c, -1.0), 1.0) * COSINE_SCALE))
        first += n - a - 1
    return first


@kernel(*_STORED)
def vectors_and_cosines(lattice, atom_counts, frac, edge_counts, angle_counts, neighbour, image):
    """Return the vector of each edge, (E, 3) float32 [A], and the fixed-point cosine of each angle pair, (T,) int16.

    The arguments are arrays of a store, see `ARRAY_FORMS`.
    """
    vector, cosine = np.empty((len(neighbour), 3), np.float32), np.empty(_pairs(angle_counts), np.int16)
    unit = np.empty((3, 65536))
    first, e, t = 0, 0, 0
    for crystal in range(len(atom_counts)):
        for i in range(first, first + atom_counts[crystal]):
            for n in range(edge_counts[i]):
                j = first + neighbour[e]
                f = frac[j, 0] + image[e, 0] - frac[i, 0]
                g = frac[j, 1] + image[e, 1] - frac[i, 1]
                h = frac[j, 2] + image[e, 2] - frac[i, 2]
                square = 0.0
                for d in range(3):
                    x = f * lattice[crystal, 0, d] + g * lattice[crystal, 1, d] + h * lattice[crystal, 2, d]
                    vector[e, d] = x
                    unit[d, n] = x
                    square += x * x
                for d in range(3):
                    unit[d, n] /= np.sqrt(square)
                e += 1
            t = _cosines(unit, angle_counts[i], cosine, t)
        first += atom_counts[crystal]
    return vector, cosine


TOLERANCE = 1e-4
"""Largest relative difference between the colours of atoms that are taken for the same."""

_MOST_ROUNDS = 8


@inline
def _refine(colours, edges, neighbour, vector, radius, refined):
    """Write the colours after one more round, (n, 3), for the atoms of one crystal."""
    density = np.empty((9, 3))
    for i in range(len(colours)):
        density[:] = 0.0
        for edge in range(edges[i], edges[i + 1]):
            x, y, z = np.float64(vector[edge, 0]), np.float64(vector[edge, 1]), np.float64(vector[edge, 2])
            distance = np.sqrt(x * x + y * y + z * z)
            x, y, z = x / distance, y / distance, z / distance
            weight = max(1.0 - (distance / radius[i]) ** 2, 0.0) ** 3
            for k in range(3):
                weight *= 3.0 / distance
                value = weight * colours[neighbour[edge], k]
                density[0, k] += value
                density[1, k] += value * x
                density[2, k] += value * y
                density[3, k] += value * z
                density[4, k] += value * x * y
                density[5, k] += value * y * z
                density[6, k] += value * x * z
                density[7, k] += value * 0.5 * (x * x - y * y)
                density[8, k] += value * (3.0 * z * z - 1.0) * 0.28867513
        for k in range(3):
            power = 0.0
            for m in range(1, 9):
                power += density[m, k] * density[m, (k + 1) % 3]
            refined[i, k] = 0.5 * colours[i, k] + 0.1 * density[0, k] + 0.02 * power


@inline
def _classes(colours, numbers, first):
    """Write the first atom of the same element and colour for each atom; return the number of classes."""
    found = 0
    firsts = np.empty(len(colours), dtype=np.int64)
    for i in range(len(colours)):
        first[i] = i
        for place in range(found):
            other = firsts[place]
            same = numbers[other] == numbers[i]
            for k in range(3):
                same &= abs(colours[i, k] - colours[other, k]) <= TOLERANCE * (1.0 + abs(colours[i, k]))
            if same:
                first[i] = other
                break
        if first[i] == i:
            firsts[found] = i
            found += 1
    return found


@kernel(view("int32"), view("uint8"), view("float32"), view("uint16"), view("uint16"), view("float32", 2))
def first_copies(atom_counts, numbers, radius, edge_counts, neighbour, vector):
    """Return for each atom the first atom of its crystal that it is equivalent to, (N,) uint16.

    The arguments are arrays of a store, see `ARRAY_FORMS`; as in `neighbour`, atoms are counted within their crystal.
    """
    result = np.empty(len(numbers), np.uint16)
    start, edge = 0, 0
    for n in atom_counts:
        own, edges = numbers[start : start + n], np.empty(n + 1, np.int64)
        colours, refined, first = np.empty((n, 3)), np.empty((n, 3)), np.empty(n, np.int64)
        edges[0] = edge
        for i in range(n):
            edges[i + 1] = edges[i] + edge_counts[start + i]
            for k in range(3):
                colours[i, k] = 1.0 + 0.5 * np.sin((k + 1.7) * own[i])
        before, classes = 0, _classes(colours, own, first)
        for _ in range(_MOST_ROUNDS):
            if classes == n or classes - before == 0:
                break
            _refine(colours, edges, neighbour, vector, radius[start : start + n], refined)
            colours, refined = refined, colours
            before, classes = classes, _classes(colours, own, first)
        for i in range(n):
            result[start + i] = first[i]
        start, edge = start + n, edges[n]
    return result
