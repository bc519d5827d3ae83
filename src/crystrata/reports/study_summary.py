"""The tables of a scenario, `SUMMARY.md`, and its numbers as they are, `results.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crystrata import __version__
from crystrata.design.formulas import LEAST
from crystrata.design.study_paths import PathResult
from crystrata.reports.study_figures import ScenarioResult, path_title
from crystrata.reports.tables import markdown


def study_summary(result: ScenarioResult, half_widths: dict[str, dict[str, float]], level: str = "90") -> str:
    """Return the summary of a scenario as markdown; values in the units of the labels.

    Args:
        result: The scenario.
        half_widths: Task -> level [%] -> half the width of its interval.
        level: Of the intervals that are told.
    """
    known = {one.task: half_widths.get(one.task, {}).get(level) for one in result.objectives}
    told = [f"{task} +/- {width:.3g}" for task, width in known.items() if width is not None]
    intervals = f"\n{level} % of the validation labels lie within {', '.join(told)} of a prediction.\n" if told else ""
    parts = [
        f"# {result.name}\n\n{len(result.seeds)} seeds. Mean +/- standard deviation over the recipes of a path, in the "
        f"units of the labels.\n{intervals}\n## Recipes\n\n{markdown(recipe_table(result))}",
        f"## Formulas\n\nEach recipe written as the nearest formula of small integers, of the neutral ones of its "
        f"elements where there are some.\n\n{markdown(formula_table(result))}",
        f"The neutral formulas of the same elements that come nearest to what is wanted, however far from the recipe:"
        f"\n\n{markdown(neutral_table(result))}",
    ]
    if any(path.latent_values is not None for path in result.paths):
        parts.append(
            "## What latents promise, and what recipes keep\n\nIn the latent; after it is decoded and encoded again; "
            f"of the recipe that comes nearest.\n\n{markdown(latent_table(result))}"
        )
    parts.append(
        "## Time\n\nOf the searches alone, on the machine that ran them.\n\n" + markdown(time_table(result.paths))
    )
    return "\n".join(parts)


def spread(values: np.ndarray) -> str:
    """Return `mean +/- standard deviation` of what is known of values (B,)."""
    values = values[np.isfinite(values)]
    return f"{values.mean():.3g} +/- {values.std():.2g}" if len(values) else "-"


def recipe_table(result: ScenarioResult) -> pd.DataFrame:
    """Return what the recipes of each path reached, below what is wanted and where the seeds are."""
    goals = [f"{goal:.3g}" if np.isfinite(goal) else objective.relation
             for goal, objective in zip(result.goals, result.objectives, strict=True)]  # fmt: skip
    seeds = map(spread, result.seed_values.T)
    rows = [["wanted", *goals, "", ""], ["seeds", *seeds, _elements(result.seed_weights), ""]]
    rows += [
        [path_title(path.name), *map(spread, path.values.T), _elements(path.weights), spread(path.distances)]
        for path in result.paths
    ]
    return pd.DataFrame(rows, columns=["path", *result.titles, "elements", "domain distance"])


def formula_table(result: ScenarioResult) -> pd.DataFrame:
    """Return what is left of it after rounding, and how many formulas are neutral."""
    rows = [
        [
            path_title(path.name),
            *map(spread, path.formula_values.T),
            spread(path.rounding_errors),
            sum(bool(charges) for charges in path.charges),
            sum(charges == {} for charges in path.charges),
        ]
        for path in result.paths
    ]
    return pd.DataFrame(rows, columns=["path", *result.titles, "rounding error", "neutral", "all metals"])


def neutral_table(result: ScenarioResult) -> pd.DataFrame:
    """Return what neutral formulas of the same elements reach where they may be far from the recipe."""
    rows = [
        [
            path_title(path.name),
            *map(spread, path.neutral_values.T),
            sum(name is not None for name in path.neutral_formulas),
        ]
        for path in result.paths
    ]
    return pd.DataFrame(rows, columns=["path", *result.titles, "formulas"])


def latent_table(result: ScenarioResult) -> pd.DataFrame:
    """Return the three values of latent searches."""
    rows = [
        [path_title(path.name), title, *(spread(values[:, column]) for values in three)]
        for path in result.paths
        for column, title in enumerate(result.titles)
        if (three := _three(path)) is not None
    ]
    return pd.DataFrame(rows, columns=["path", "objective", "in the latent", "decoded and encoded", "of the recipe"])


def _three(path: PathResult) -> tuple[np.ndarray, ...] | None:
    if path.latent_values is None or path.decoded_values is None:
        return None
    return path.latent_values, path.decoded_values, path.values


def time_table(paths: Sequence[PathResult]) -> pd.DataFrame:
    """Return how long each path took."""
    rows = [
        [path_title(path.name), len(path.weights), path.seconds, 100 * path.cpu_seconds / len(path.weights)]
        for path in paths
    ]
    return pd.DataFrame(rows, columns=["path", "recipes", "seconds", "CPU seconds for 100 recipes"])


def _elements(weights: np.ndarray) -> str:
    return spread((weights >= LEAST).sum(axis=1).astype(float))


def study_results(result: ScenarioResult, half_widths: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return everything that a scenario found as plain JSON values."""
    return {
        "scenario": result.name,
        "objectives": [
            {"title": title, "task": one.task, "relation": one.relation, "value": one.value,
             "classes": list(one.classes), "weight": one.weight, "half_widths": half_widths.get(one.task, {})}
            for title, one in zip(result.titles, result.objectives, strict=True)
        ],
        "seeds": list(result.seeds),
        "seed_values": result.seed_values.tolist(),
        "paths": {path.name: path.as_dict() for path in result.paths},
        "crystrata": __version__,
    }  # fmt: skip
