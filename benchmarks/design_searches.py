"""Searches for compositions without gradients, as baselines. R searches, Z elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from crystrata.elements import SYMBOLS

_PARENTS = 0.5  # share of a generation that becomes parents
_SPREAD = 0.3  # of the logarithm of a mutated amount


def random_compositions(rng: np.random.Generator, count: int, symbols: Sequence[str], most: int) -> np.ndarray:
    """Return random atomic fractions of 2 to `most` elements, (count, Z)."""
    places = np.array([SYMBOLS.index(symbol) for symbol in symbols])
    compositions = np.zeros((count, len(SYMBOLS)))
    for row in compositions:
        chosen = rng.choice(places, rng.integers(2, most + 1), replace=False)
        row[chosen] = rng.dirichlet(np.ones(len(chosen)))
    return compositions


def evolved(
    losses: Callable[[np.ndarray, np.ndarray], np.ndarray],
    searches: int,
    calls: int,
    symbols: Sequence[str],
    most: int,
    *,
    generations: int,
    seed: int = 0,
) -> np.ndarray:
    """Return the best composition of each search, (R, Z): the better half of each generation has children.

    Args:
        losses: Returns the losses (m,) of compositions (m, Z) in the searches (m,) that they belong to.
        searches: R.
        calls: Compositions that are evaluated in each search.
        symbols: Allowed elements.
        most: Largest number of elements.
        generations: 1 for a random search.
        seed: Random seed.
    """
    rng, size = np.random.default_rng(seed), calls // generations
    rows = np.repeat(np.arange(searches), size)
    compositions = random_compositions(rng, searches * size, symbols, most)
    found = losses(compositions, rows).reshape(searches, size)
    for _ in range(generations - 1):
        parent_count = max(1, int(_PARENTS * size))
        order = np.argsort(found, axis=1)[:, :parent_count]
        parents = np.take_along_axis(compositions.reshape(searches, size, -1), order[:, :, None], axis=1)
        chosen = parents[np.arange(searches)[:, None], rng.integers(0, parent_count, (searches, size))]
        children = np.array(
            [_changed(rng, composition, symbols, most) for composition in chosen.reshape(searches * size, -1)]
        )
        best = parents[:, 0], np.take_along_axis(found, order[:, :1], axis=1)
        compositions, found = children, losses(children, rows).reshape(searches, size)
        compositions = compositions.reshape(searches, size, -1)
        compositions[:, 0], found[:, 0] = best[0], best[1][:, 0]  # the best one stays
        compositions = compositions.reshape(searches * size, -1)
    return compositions.reshape(searches, size, -1)[np.arange(searches), found.argmin(axis=1)]


def _changed(rng: np.random.Generator, composition: np.ndarray, symbols: Sequence[str], most: int) -> np.ndarray:
    """Return a child with other amounts and, at times, an element substituted, added or removed."""
    child, present = composition.copy(), np.flatnonzero(composition)
    child[present] *= np.exp(_SPREAD * rng.standard_normal(len(present)))
    chance, new = rng.random(), SYMBOLS.index(symbols[rng.integers(len(symbols))])
    old = present[rng.integers(len(present))]
    if chance < 0.3 and new not in present:
        child[new], child[old] = child[old], 0.0
    elif chance < 0.4 and len(present) < most:
        child[new] += child.sum() * rng.random() / len(present)
    elif chance < 0.5 and len(present) > 2:
        child[old] = 0.0
    return child / child.sum()
