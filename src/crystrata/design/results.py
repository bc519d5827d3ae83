"""Table of the compositions that a search found, with predictions for them and for their formulas."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from crystrata.compositions.keys import known_weights
from crystrata.design.formulas import MOST_ATOMS, Composition, composition_text, neutral_neighbours
from crystrata.design.objectives import ObjectiveFunction
from crystrata.design.trained import TrainedCompositions

FORMULA, COMPOSITION, ERROR, LOSS = "formula", "composition", "rounding error", "loss"
DISTANCE, CHARGES, KNOWN, NEAREST = "domain distance", "charges", "known", "nearest known"


def results_table(
    trained: TrainedCompositions,
    function: ObjectiveFunction,
    weights: np.ndarray,
    *,
    max_atoms: int = MOST_ATOMS,
    level: int = 90,
    latent_values: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Return a row for each formula, in order of increasing loss.

    Each composition contributes its nearest formula, and the neutral formula of its elements with the lowest loss.

    Args:
        trained: The model.
        function: The objectives.
        weights: Compositions, (B, n).
        max_atoms: Largest number of atoms in a formula.
        level: Level of the prediction intervals [%].
        latent_values: Column suffix, such as `in latent` -> predictions of a latent search, (B, T).

    Returns:
        `formula`, `composition` and `rounding error`; for each objective the predictions of a latent search, for the
        composition and for the formula, and the limits of the interval; `loss` of the formula, `domain distance` from
        the training compositions, `charges` that make it neutral, whether it is `known` to the model, and the
        `nearest known` formulas.
    """
    compositions, rows = [Composition.of(row, max_atoms) for row in weights], list(range(len(weights)))
    for row, best in enumerate(best_neutral(trained, function, weights, max_atoms)):
        if best is not None:
            compositions.append(Composition.written_as(weights[row], best))
            rows.append(row)
    weights = weights[rows]
    formulas = [composition.formula for composition in compositions]
    rounded, _ = known_weights(formulas)
    before, _ = evaluate(trained, function, weights)
    after, losses = evaluate(trained, function, rounded)
    known, near = set(trained.names), trained.nearest_known(rounded)
    columns = {
        FORMULA: formulas,
        COMPOSITION: [composition_text(composition.weights) for composition in compositions],
        ERROR: [composition.rounding_error for composition in compositions],
    }
    for place, objective in enumerate(function.objectives):
        half = trained.half_widths.get(objective.task, {}).get(str(level), np.nan)
        columns |= {
            f"{objective.task} {suffix}": values[rows, place] for suffix, values in (latent_values or {}).items()
        }
        columns[f"{objective.task} of composition"] = before[:, place]
        columns[objective.task] = after[:, place]
        if objective.relation != "class":
            columns |= {
                f"{objective.task} low": after[:, place] - half,
                f"{objective.task} high": after[:, place] + half,
            }
    columns |= {
        LOSS: losses,
        DISTANCE: trained.distance(rounded),
        CHARGES: [_charges_text(composition.charges) for composition in compositions],
        KNOWN: [formula in known for formula in formulas],
        NEAREST: [", ".join(names) for names in near],
    }
    table = pd.DataFrame(columns).sort_values([LOSS, ERROR], kind="stable")
    return table.drop_duplicates(FORMULA).reset_index(drop=True)


def best_neutral(
    trained: TrainedCompositions, function: ObjectiveFunction, weights: np.ndarray, max_atoms: int = MOST_ATOMS
) -> list[np.ndarray | None]:
    """Return, for each composition (B, n), the neutral formula of its elements with the lowest loss, as fractions (n,).

    None where no formula is neutral.
    """
    found: list[np.ndarray | None] = []
    for row, composition in enumerate(weights):
        formulas = neutral_neighbours(composition, max_atoms)
        if not len(formulas):
            found.append(None)
            continue
        _, losses = evaluate(trained, function.of_row(row), formulas)
        found.append(formulas[losses.argmin()])
    return found


@torch.inference_mode()
def evaluate(
    trained: TrainedCompositions, function: ObjectiveFunction, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions (B, T) and losses (B,) of compositions."""
    model = trained.model
    tensor = torch.as_tensor(weights, dtype=torch.get_default_dtype(), device=model.device)
    latent = model.latents(model.descriptors(tensor))
    return function.values(latent).cpu().numpy(), function.losses(latent).cpu().numpy()


def _charges_text(charges: dict[str, float] | None) -> str:
    if charges is None:
        return "not neutral"
    return " ".join(f"{symbol}{charge:+.3g}" for symbol, charge in charges.items()) or "all metals"
