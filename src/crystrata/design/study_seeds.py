"""Choice of the known compositions that a study starts from."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from crystrata.compositions.keys import formula_amounts, group_key
from crystrata.design.objectives import ObjectiveFunction
from crystrata.design.results import evaluate
from crystrata.design.study_config import SeedChoice
from crystrata.design.trained import TrainedCompositions
from crystrata.errors import UsageError


def choose_seeds(
    trained: TrainedCompositions, function: ObjectiveFunction, choice: SeedChoice, without: Collection[str] = ()
) -> list[str]:
    """Return reduced formulas: first all named ones, then the best of the pool, each with different elements.

    Args:
        trained: The model.
        function: The objectives.
        choice: Choice of the seeds.
        without: Elements excluded from the pool.

    Raises:
        UsageError: A formula cannot be read, `probability` has no target class, or the pool has no suitable seeds.
    """
    named = list(dict.fromkeys(group_key(name) for name in (*choice.append, *choice.formulas)))
    if named:
        trained.seeds(named)
    pool = [] if choice.strategy == "explicit" else _ordered(trained, function, choice, without)
    seeds = [*named, *_one_of_each(pool, named)[: max(0, choice.count - len(named))]]
    if not seeds:
        raise UsageError(f"the {choice.pool} part of the split has no suitable seeds: choose another pool")
    return seeds


def _ordered(
    trained: TrainedCompositions, function: ObjectiveFunction, choice: SeedChoice, without: Collection[str]
) -> list[str]:
    """Return the compositions of the pool, best first."""
    elements = {name: formula_amounts(name).keys() for name in trained.parts[choice.pool]}
    pool = [name for name, symbols in elements.items() if len(symbols) > 1 and symbols.isdisjoint(without)]
    if choice.strategy == "random" or not pool:
        return [pool[place] for place in np.random.default_rng(choice.random_seed).permutation(len(pool))]
    values, losses = evaluate(trained, function, trained.seeds(pool))
    if choice.strategy == "probability":
        if not function.objectives[0].classes:
            raise UsageError("seeds by probability need a class target: add one, or choose the strategy loss")
        losses = -values[:, 0]
    return [pool[place] for place in np.argsort(losses, kind="stable")]


def _one_of_each(formulas: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the first formula of each set of elements, except the sets of other formulas."""
    seen, found = {frozenset(formula_amounts(other)) for other in others}, []
    for formula in formulas:
        if (elements := frozenset(formula_amounts(formula))) not in seen:
            seen.add(elements)
            found.append(formula)
    return found
