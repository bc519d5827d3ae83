"""Tables of a scenario (`SUMMARY.md`), and all of its numbers (`results.json`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crystrata import __version__
from crystrata.design.formulas import LEAST_FRACTION
from crystrata.design.study_paths import PathResult
from crystrata.reports.study_figures import ScenarioResult, path_title
from crystrata.reports.tables import markdown


def study_summary(result: ScenarioResult, half_widths: dict[str, dict[str, float]], level: str = "90") -> str:
    """Return the summary of a scenario as markdown; values in the units of the labels.

    `half_widths` are those of the prediction intervals, task -> level [%] -> half width; `level` is the one shown.
    """
    known = {one.task: half_widths.get(one.task, {}).get(level) for one in result.objectives}
    widths = [f"{task} +/- {width:.3g}" for task, width in known.items() if width is not None]
    intervals = (
        f"\n{level} % of the validation labels lie within {', '.join(widths)} of a prediction.\n" if widths else ""
    )
    parts = [
        f"# {result.name}\n\n{len(result.seeds)} seeds. Mean +/- standard deviation over the compositions of a path, "
        f"in the units of the labels.\n{intervals}\n## Compositions\n\n{markdown(composition_table(result))}",
        f"## Formulas\n\nEach composition rounded to its nearest formula of small integers, a neutral one where "
        f"possible.\n\n{markdown(formula_table(result))}",
        f"The neutral formulas of the same elements with the lowest loss, however far from the composition:\n\n"
        f"{markdown(neutral_table(result))}",
    ]
    if any(path.latent_values is not None for path in result.paths):
        parts.append(
            "## Latent searches\n\nPredictions from the latent, after decoding and encoding it, and for the nearest "
            f"composition.\n\n{markdown(latent_table(result))}"
        )
    parts.append(
        "## Time\n\nOf the searches alone, on the machine that ran them.\n\n" + markdown(time_table(result.paths))
    )
    return "\n".join(parts)


def spread(values: np.ndarray) -> str:
    """Return `mean +/- standard deviation` of the finite values among (B,)."""
    values = values[np.isfinite(values)]
    return f"{values.mean():.3g} +/- {values.std():.2g}" if len(values) else "-"


def composition_table(result: ScenarioResult) -> pd.DataFrame:
    """Return the predictions for the compositions of each path, below the targets and the seeds."""
    goals = [f"{goal:.3g}" if np.isfinite(goal) else objective.relation
             for goal, objective in zip(result.goals, result.objectives, strict=True)]  # fmt: skip
    seeds = map(spread, result.seed_values.T)
    rows = [["target", *goals, "", ""], ["seeds", *seeds, _elements(result.seed_weights), ""]]
    rows += [
        [path_title(path.name), *map(spread, path.values.T), _elements(path.weights), spread(path.distances)]
        for path in result.paths
    ]
    return pd.DataFrame(rows, columns=["path", *result.titles, "elements", "domain distance"])


def formula_table(result: ScenarioResult) -> pd.DataFrame:
    """Return the predictions for the rounded formulas, and how many of them are neutral."""
    rows = [
        [path_title(path.name), *map(spread, path.formula_values.T), spread(path.rounding_errors),
         sum(map(bool, path.charges)), sum(charges == {} for charges in path.charges)]
        for path in result.paths
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["path", *result.titles, "rounding error", "neutral", "all metals"])


def neutral_table(result: ScenarioResult) -> pd.DataFrame:
    """Return the predictions for the neutral formulas of the same elements with the lowest loss."""
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
    """Return the three predictions of latent searches."""
    rows = []
    for path in result.paths:
        if path.latent_values is not None and path.decoded_values is not None:
            three = (path.latent_values, path.decoded_values, path.values)
            rows += [
                [path_title(path.name), title, *(spread(values[:, column]) for values in three)]
                for column, title in enumerate(result.titles)
            ]
    return pd.DataFrame(rows, columns=["path", "objective", "latent", "decoded and encoded", "composition"])


def time_table(paths: Sequence[PathResult]) -> pd.DataFrame:
    """Return the time that each path took."""
    rows = [
        [path_title(path.name), len(path.weights), path.seconds, 100 * path.cpu_seconds / len(path.weights)]
        for path in paths
    ]
    return pd.DataFrame(rows, columns=["path", "compositions", "seconds", "CPU seconds for 100 compositions"])


def _elements(weights: np.ndarray) -> str:
    return spread((weights >= LEAST_FRACTION).sum(axis=1).astype(float))


def study_results(result: ScenarioResult, half_widths: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return all results of a scenario as plain JSON values."""
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
