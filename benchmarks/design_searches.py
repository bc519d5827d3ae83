"""Searches for compositions that use no gradient: what a gradient must be better than. R searches, Z elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from crystrata.elements import SYMBOLS

_CHILDREN = 0.5  # share of a generation that is kept as parents
_SPREAD = 0.3  # of the logarithm of an amount that changes


def random_recipes(rng: np.random.Generator, count: int, symbols: Sequence[str], most: int) -> np.ndarray:
    """Return random atomic fractions of 2 to `most` elements, (count, Z)."""
    places = np.array([SYMBOLS.index(symbol) for symbol in symbols])
    recipes = np.zeros((count, len(SYMBOLS)))
    for row in recipes:
        chosen = rng.choice(places, rng.integers(2, most + 1), replace=False)
        row[chosen] = rng.dirichlet(np.ones(len(chosen)))
    return recipes


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
    """Return the best recipe of each search, (R, Z): the better half of each generation has children.

    Args:
        losses: Losses (m,) of recipes (m, Z) in the searches (m,) that they belong to.
        searches: R.
        calls: Recipes that are looked at in each search.
        symbols: Elements that may be in a recipe.
        most: Elements of a recipe at most.
        generations: 1 is random search.
        seed: Of all chance.
    """
    rng, size = np.random.default_rng(seed), calls // generations
    rows = np.repeat(np.arange(searches), size)
    recipes = random_recipes(rng, searches * size, symbols, most)
    found = losses(recipes, rows).reshape(searches, size)
    for _ in range(generations - 1):
        kept = max(1, int(_CHILDREN * size))
        order = np.argsort(found, axis=1)[:, :kept]
        parents = np.take_along_axis(recipes.reshape(searches, size, -1), order[:, :, None], axis=1)
        chosen = parents[np.arange(searches)[:, None], rng.integers(0, kept, (searches, size))]
        children = np.array([_changed(rng, recipe, symbols, most) for recipe in chosen.reshape(searches * size, -1)])
        best = parents[:, 0], np.take_along_axis(found, order[:, :1], axis=1)
        recipes, found = children, losses(children, rows).reshape(searches, size)
        recipes = recipes.reshape(searches, size, -1)
        recipes[:, 0], found[:, 0] = best[0], best[1][:, 0]  # the best one stays
        recipes = recipes.reshape(searches * size, -1)
    return recipes.reshape(searches, size, -1)[np.arange(searches), found.argmin(axis=1)]


def _changed(rng: np.random.Generator, recipe: np.ndarray, symbols: Sequence[str], most: int) -> np.ndarray:
    """Return a child: other amounts, and now and then an element exchanged, added or left out."""
    child, present = recipe.copy(), np.flatnonzero(recipe)
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
