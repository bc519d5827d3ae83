"""Which known compositions a study starts from."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from crystrata.compositions.keys import formula_amounts, group_key
from crystrata.design.objectives import ObjectiveFunction
from crystrata.design.results import judged
from crystrata.design.study_config import SeedChoice
from crystrata.design.trained import TrainedCompositions
from crystrata.errors import UsageError


def choose_seeds(
    trained: TrainedCompositions, function: ObjectiveFunction, choice: SeedChoice, without: Collection[str] = ()
) -> list[str]:
    """Return reduced formulas: first all that are named, then the best of the pool, of other elements each.

    Args:
        trained: The run.
        function: What is wanted.
        choice: How they are chosen.
        without: Elements that none of the pool may have.

    Raises:
        UsageError: A formula cannot be read, no class is wanted whose probability could order them, or there is none.
    """
    named = list(dict.fromkeys(group_key(name) for name in (*choice.append, *choice.formulas)))
    if named:
        trained.seeds(named)
    pool = [] if choice.strategy == "explicit" else _ordered(trained, function, choice, without)
    seeds = [*named, *_one_of_each(pool, named)[: max(0, choice.count - len(named))]]
    if not seeds:
        raise UsageError(f"the part {choice.pool} of the run has no such compounds: take another pool of seeds")
    return seeds


def _ordered(
    trained: TrainedCompositions, function: ObjectiveFunction, choice: SeedChoice, without: Collection[str]
) -> list[str]:
    """Return the compounds of the pool, the best first."""
    elements = {name: formula_amounts(name).keys() for name in trained.parts[choice.pool]}
    pool = [name for name, symbols in elements.items() if len(symbols) > 1 and symbols.isdisjoint(without)]
    if choice.strategy == "random" or not pool:
        return [pool[place] for place in np.random.default_rng(choice.random_seed).permutation(len(pool))]
    values, losses = judged(trained, function, trained.seeds(pool))
    if choice.strategy == "probability":
        if not function.objectives[0].classes:
            raise UsageError("seeds by probability need a class target: add one, or take the strategy loss")
        losses = -values[:, 0]
    return [pool[place] for place in np.argsort(losses, kind="stable")]


def _one_of_each(formulas: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the first formula of each set of elements that none of the others has."""
    seen, found = {frozenset(formula_amounts(other)) for other in others}, []
    for formula in formulas:
        if (elements := frozenset(formula_amounts(formula))) not in seen:
            seen.add(elements)
            found.append(formula)
    return found
