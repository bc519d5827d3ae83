"""The neighbour search, compiled. B crystals, N atoms, E edges, M bins.

The atoms of a crystal lie in bins, equal parts of its cell. A centre looks into every bin, and every periodic image of
one, that its sphere may touch. A key holds neighbour and image of an edge in one integer, so that edges of equal length
have an order and sorting moves two numbers. Arrays are passed one by one: tuples of them are counted references, which
would take half of the time.
"""

from __future__ import annotations

import numpy as np
from numba import types

from crystrata.graphs.compiled import inline, kernel, view

_ATOMS_PER_BIN = 4.0
_FIRST_GUESS = 2.2  # times k atoms are expected in the sphere that is searched first
_WIDER = 1.3  # by which a sphere grows that holds fewer than k
_MAX_REACH = 500.0  # images along a lattice vector; in a cell so skewed that there are more, the search would not end
_BITS = 11  # of a key for the image along one lattice vector
_ORIGIN = 1 << (_BITS - 1)
_HOME = _ORIGIN * (1 + (1 << _BITS) + (1 << (2 * _BITS)))  # the image (0, 0, 0)


@inline
def _volume_and_spacings(lattice):
    """Return the volume [A^3] and the distances between the faces of the cell, (3,) [A]."""
    spacings, volume = np.empty(3), 0.0
    for d in range(3):
        a, b = (d + 1) % 3, (d + 2) % 3
        x = lattice[a, 1] * lattice[b, 2] - lattice[a, 2] * lattice[b, 1]
        y = lattice[a, 2] * lattice[b, 0] - lattice[a, 0] * lattice[b, 2]
        z = lattice[a, 0] * lattice[b, 1] - lattice[a, 1] * lattice[b, 0]
        volume = abs(lattice[d, 0] * x + lattice[d, 1] * y + lattice[d, 2] * z)
        spacings[d] = volume / np.sqrt(x * x + y * y + z * z)
    return volume, spacings


@inline
def _in_bins(lattice, frac, bins):
    """Sort the atoms of a crystal into bins.

    Returns:
        First atom of each bin (M + 1,), and bin after bin the atoms as the high part of a key (N,) and their places
        (3, N) [A]; position of each atom in that order (N,); the most atoms in a bin.
    """
    n = len(frac)
    home, slot, tag, place = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64), np.empty((3, n))
    start = np.zeros(bins[0] * bins[1] * bins[2] + 2, np.int64)
    for i in range(n):
        home[i] = 0
        for d in range(3):
            home[i] = home[i] * bins[d] + min(int(frac[i, d] * bins[d]), bins[d] - 1)
        start[home[i] + 2] += 1
    most = start.max()
    for b in range(2, len(start)):
        start[b] += start[b - 1]
    for i in range(n):
        s = start[home[i] + 1]
        start[home[i] + 1] += 1
        slot[i], tag[s] = s, i << (3 * _BITS)
        for d in range(3):
            place[d, s] = frac[i, 0] * lattice[0, d] + frac[i, 1] * lattice[1, d] + frac[i, 2] * lattice[2, d]
    return start, tag, place, slot, most


@inline
def _bins_along(spacings, edge, cutoff):
    """Return the bins along each vector (3,), of about a given edge, and how many a sphere may touch along one."""
    bins, longest = np.empty(3, np.int64), 0
    for d in range(3):
        bins[d] = max(1, int(spacings[d] / edge))
        longest = max(longest, int(2 * bins[d] * cutoff / spacings[d]) + 3)
    return bins, longest


@inline
def _steps(centre, reach, bins, lattice, counts, step, origin):
    """List the bins along each axis that a sphere may touch; return the number of their combinations.

    `counts` gets their numbers, `step` their share of the position of a bin and of the image in a key, `origin` where
    their image begins [A].
    """
    stride, combinations = 1, 1
    for axis in (2, 1, 0):
        m, margin = bins[axis], reach[axis] + 1e-9  # an atom on the sphere must not be lost to rounding
        first, last = int(np.floor((centre[axis] - margin) * m)), int(np.floor((centre[axis] + margin) * m))
        image = int(np.floor(first / m))
        b = first - image * m
        for n in range(last - first + 1):
            if b == m:
                b, image = 0, image + 1
            step[axis, n, 0] = b * stride
            step[axis, n, 1] = (image + _ORIGIN) << ((2 - axis) * _BITS)
            for d in range(3):
                origin[axis, n, d] = image * lattice[axis, d]
            b += 1
        counts[axis] = last - first + 1
        combinations *= counts[axis]
        stride *= m
    return combinations


@inline
def _append(own, limit, counts, step, origin, start, tag, place, square, key, first):
    """Append the atoms of the listed bins, but the centre itself, whose squared distance is within the limit.

    What is no neighbour is written too, and overwritten by the next: a branch would cost more, as would signed indices.
    """
    x, y, z = place[0, own], place[1, own], place[2, own]
    itself = tag[own] + _HOME
    end = np.uint64(first)
    for a in range(counts[0]):
        xa, ya, za = origin[0, a, 0] - x, origin[0, a, 1] - y, origin[0, a, 2] - z
        for b in range(counts[1]):
            xb, yb, zb = xa + origin[1, b, 0], ya + origin[1, b, 1], za + origin[1, b, 2]
            row, images = step[0, a, 0] + step[1, b, 0], step[0, a, 1] + step[1, b, 1]
            for c in range(counts[2]):
                xc, yc, zc = xb + origin[2, c, 0], yb + origin[2, c, 1], zb + origin[2, c, 2]
                home, image = row + step[2, c, 0], images + step[2, c, 1]
                for s in range(np.uint64(start[home]), np.uint64(start[home + 1])):
                    dx, dy, dz = place[0, s] + xc, place[1, s] + yc, place[2, s] + zc
                    r, k = dx * dx + dy * dy + dz * dz, tag[s] + image
                    square[end], key[end] = r, k
                    end += np.uint64((r <= limit) & (k != itself))
    return np.int64(end)


@inline
def _bucket(part, n):
    return min(int(part * np.sqrt(part) * n), n - 1)


@inline
def _sort(square, key, bucket, first, end, limit):
    """Sort edges by length, equal ones by neighbour and image; no square is above the limit.

    They go into as many buckets of equal volume as there are edges, behind the last one, and back into their places.
    """
    n = end - first
    for b in range(n + 2):
        bucket[b] = 0
    for i in range(first, end):
        bucket[_bucket(square[i] / limit, n) + 2] += 1
    for b in range(2, n + 1):
        bucket[b] += bucket[b - 1]
    for i in range(first, end):
        b = _bucket(square[i] / limit, n) + 1
        square[end + bucket[b]], key[end + bucket[b]] = square[i], key[i]
        bucket[b] += 1
    for i in range(first, end):
        r, k, j = square[i + n], key[i + n], i
        while j > first and (square[j - 1] > r or (square[j - 1] == r and key[j - 1] > k)):
            square[j], key[j] = square[j - 1], key[j - 1]
            j -= 1
        square[j], key[j] = r, k


@inline
def _grown(array, size, used):
    """Return an array of a larger size with the numbers that are in use."""
    larger = np.empty(size, array.dtype)
    for i in range(used):
        larger[i] = array[i]
    return larger


@inline
def _unpacked(square, key, n):
    """Return neighbour (E,), image (E, 3) and distance (E,) [A] of the first n edges."""
    neighbour, image, distance = np.empty(n, np.int64), np.empty((n, 3), np.int64), np.empty(n)
    for e in range(n):
        neighbour[e] = key[e] >> (3 * _BITS)
        for d in range(3):
            image[e, d] = ((key[e] >> ((2 - d) * _BITS)) & ((1 << _BITS) - 1)) - _ORIGIN
        distance[e] = np.sqrt(square[e])
    return neighbour, image, distance


@kernel(view("float64", 3), view("int64"), view("float64", 2), types.int64, types.float64, types.float64)
def neighbourhoods(lattice, offsets, frac, k, delta, cutoff):
    """Find the smooth neighbourhoods of crystals or, with k = 0, all pairs within the cutoff.

    Args:
        lattice: Lattice vectors as rows, (B, 3, 3) [A].
        offsets: First atom of each crystal, (B + 1,).
        frac: Fractional coordinates in [0, 1), (N, 3).
        k: See `GraphSettings`, as delta and cutoff.

    Returns:
        Edges (N,) and range R_i (N,) [A] of each atom; neighbour (E,), image (E, 3) and distance (E,) [A] of each edge,
        sorted by centre and, unless k = 0, by distance. The ranges of a crystal too skewed to be searched are -1.
    """
    edge_counts, ranges = np.zeros(len(frac), np.int64), np.full(len(frac), -1.0)
    square, key, bucket = np.empty(64 * len(frac)), np.empty(64 * len(frac), np.int64), np.empty(256, np.int64)
    counts, e = np.empty(3, np.int64), 0
    for crystal in range(len(lattice)):
        cell, own = lattice[crystal], frac[offsets[crystal] : offsets[crystal + 1]]
        volume, spacings = _volume_and_spacings(cell)
        if cutoff / spacings.min() > _MAX_REACH:
            continue
        bins, longest = _bins_along(spacings, (_ATOMS_PER_BIN * volume / len(own)) ** (1 / 3), cutoff)
        step, origin = np.empty((3, longest, 2), np.int64), np.empty((3, longest, 3))
        start, tag, place, slot, most = _in_bins(cell, own, bins)
        expected = (_FIRST_GUESS * k * volume / len(own) * 3 / (4 * np.pi)) ** (1 / 3)
        guess = min(cutoff, expected) if k > 0 else cutoff
        for i in range(len(own)):
            radius = guess
            while True:
                room = most * _steps(own[i], radius / spacings, bins, cell, counts, step, origin)
                if e + 2 * room > len(square):
                    square, key = _grown(square, 2 * (e + 2 * room), e), _grown(key, 2 * (e + 2 * room), e)
                if room + 2 > len(bucket):
                    bucket = np.empty(2 * room, np.int64)
                end = _append(slot[i], radius * radius, counts, step, origin, start, tag, place, square, key, e)
                if k > 0:
                    _sort(square, key, bucket, e, end, radius * radius)
                enough = 0 < k <= end - e
                reach = min(cutoff, (1 + delta) * np.sqrt(square[e + k - 1])) if enough else cutoff
                if reach <= radius:
                    break
                radius = reach if enough else min(cutoff, _WIDER * radius)
            while k > 0 and end > e and np.sqrt(square[end - 1]) >= reach:
                end -= 1
            edge_counts[offsets[crystal] + i], ranges[offsets[crystal] + i] = end - e, reach
            e = end
    neighbour, image, distance = _unpacked(square, key, e)
    return edge_counts, ranges, neighbour, image, distance
