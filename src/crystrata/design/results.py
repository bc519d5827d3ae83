"""Recipes that a search found, as an honest table: what the network says of the recipe and of the formula near it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from crystrata.compositions.keys import known_weights
from crystrata.design.formulas import MOST_ATOMS, Recipe, neutral_neighbours
from crystrata.design.objectives import ObjectiveFunction
from crystrata.design.trained import TrainedCompositions

FORMULA, RECIPE, ERROR, LOSS = "formula", "recipe", "rounding error", "loss"
DISTANCE, CHARGES, KNOWN, NEAREST = "domain distance", "charges", "known", "nearest known"


def describe_recipes(
    trained: TrainedCompositions,
    function: ObjectiveFunction,
    weights: np.ndarray,
    *,
    max_atoms: int = MOST_ATOMS,
    level: int = 90,
    promised: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Return a row for each formula, the one nearest to what is wanted first.

    Each recipe gives the formula nearest to it, and the neutral one of its elements that has the lowest loss.

    Args:
        trained: The run.
        function: What was wanted of its network.
        weights: Recipes, (B, n).
        max_atoms: Most atoms of a formula.
        level: Of the intervals [%].
        promised: What a search of latents says before there is a recipe: words, such as `in latent` -> values (B, T).

    Returns:
        `formula`, `recipe` and its `rounding error`; for each objective what was promised, the predictions for
        the recipe and the formula, and the ends of its interval; `loss` of the formula, `domain distance` from the
        training compositions, `charges` that make it neutral, whether it is `known` to the run, and the `nearest known`
        ones.
    """
    recipes, rows = [Recipe.of(row, max_atoms) for row in weights], list(range(len(weights)))
    for row, best in enumerate(best_neutral(trained, function, weights, max_atoms)):
        if best is not None:
            recipes.append(Recipe.written_as(weights[row], best))
            rows.append(row)
    weights = weights[rows]
    formulas = [recipe.formula for recipe in recipes]
    rounded, _ = known_weights(formulas)
    before, _ = judged(trained, function, weights)
    after, losses = judged(trained, function, rounded)
    known, near = set(trained.names), trained.nearest_known(rounded)
    columns = {
        FORMULA: formulas,
        RECIPE: [recipe.text for recipe in recipes],
        ERROR: [recipe.rounding_error for recipe in recipes],
    }
    for place, objective in enumerate(function.objectives):
        half = trained.half_widths.get(objective.task, {}).get(str(level), np.nan)
        columns |= {f"{objective.task} {words}": values[rows, place] for words, values in (promised or {}).items()}
        columns[f"{objective.task} of recipe"] = before[:, place]
        columns[objective.task] = after[:, place]
        if objective.relation != "class":
            columns |= {
                f"{objective.task} low": after[:, place] - half,
                f"{objective.task} high": after[:, place] + half,
            }
    columns |= {
        LOSS: losses,
        DISTANCE: trained.distance(rounded),
        CHARGES: [_in_words(recipe.charges) for recipe in recipes],
        KNOWN: [formula in known for formula in formulas],
        NEAREST: [", ".join(names) for names in near],
    }
    table = pd.DataFrame(columns).sort_values([LOSS, ERROR], kind="stable")
    return table.drop_duplicates(FORMULA).reset_index(drop=True)


def best_neutral(
    trained: TrainedCompositions, function: ObjectiveFunction, weights: np.ndarray, max_atoms: int = MOST_ATOMS
) -> list[np.ndarray | None]:
    """Return for each recipe (B, n) the fractions (n,) of the neutral formula of its elements with the lowest loss.

    None where no formula is neutral.
    """
    found: list[np.ndarray | None] = []
    for row, recipe in enumerate(weights):
        formulas = neutral_neighbours(recipe, max_atoms)
        if not len(formulas):
            found.append(None)
            continue
        _, losses = judged(trained, function.of_row(row), formulas)
        found.append(formulas[losses.argmin()])
    return found


@torch.inference_mode()
def judged(
    trained: TrainedCompositions, function: ObjectiveFunction, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions (B, T) and losses (B,) of recipes."""
    model = trained.model
    tensor = torch.as_tensor(weights, dtype=torch.get_default_dtype(), device=model.device)
    latent = model.latents(model.descriptors(tensor))
    return function.values(latent).cpu().numpy(), function.losses(latent).cpu().numpy()


def _in_words(charges: dict[str, float] | None) -> str:
    if charges is None:
        return "not neutral"
    return " ".join(f"{symbol}{charge:+.3g}" for symbol, charge in charges.items()) or "all metals"
