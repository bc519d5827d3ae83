"""What follows from stored arrays by arithmetic, compiled. See `arrays` for the letters."""

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
