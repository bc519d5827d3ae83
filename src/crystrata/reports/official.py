"""Answers and figures of whole official tests, those that compare with the JARVIS leaderboard. n test crystals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crystrata.datasets.materials import Materials
from crystrata.datasets.splits import Split
from crystrata.jarvis_properties import PUBLISHED
from crystrata.tasks import Task

COLUMNS = ("benchmark", "id", "label", "prediction")


def official_predictions(
    split: Split,
    materials: Materials,
    tasks: Sequence[Task],
    predicted: Mapping[str, np.ndarray],
    details: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """Return what a run predicts for every official test that the split holds and a task of the run predicts.

    Args:
        split: The split; its official tests are whole.
        materials: All materials, with the label columns of their source.
        tasks: Tasks of one number.
        predicted: Their predictions on the test part, task -> (n,).
        details: What the heads say besides on the test part, title -> (n,).

    Returns:
        One row per benchmark and crystal, with `COLUMNS`: label (NaN where unknown) and prediction in the label's unit.
    """
    predicting, answers = _predicting(tasks), []
    for benchmark, rows in split.official_tests.items():
        if benchmark in predicting and materials.table is not None:
            task = predicting[benchmark]
            values = _component(task, benchmark, predicted[task.name], details)
            told = {
                "benchmark": benchmark,
                "id": [materials.ids[row] for row in rows],
                "label": materials.table[benchmark].to_numpy(dtype=np.float64)[rows],
                "prediction": values[np.searchsorted(split.test, rows)],
            }
            answers.append(pd.DataFrame(told, columns=list(COLUMNS)))
    return pd.concat(answers, ignore_index=True) if answers else pd.DataFrame(columns=list(COLUMNS))


def official_figures(
    answers: pd.DataFrame, tasks: Sequence[Task], materials: Materials, train: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Return the figures of official tests.

    Args:
        answers: See `official_predictions`.
        tasks: Tasks of one number.
        materials: All materials, with the label columns of their source.
        train: Rows of the training part.

    Returns:
        Benchmark -> `property`, `ids` (crystals of the official test), `n` (those with a label), `mae` over these and
        `median_mae`, that of predicting the median training label (None without any), in the label's unit, and the
        published `cgcnn` and `alignn`.
    """
    figures, predicting = dict[str, dict[str, Any]](), _predicting(tasks)
    if materials.table is None:
        return figures
    train_labels = materials.table.iloc[train]
    for name, rows in answers.groupby("benchmark", sort=False):
        benchmark = str(name)
        known, published = rows.dropna(subset="label"), PUBLISHED[benchmark]
        median = train_labels[benchmark].median()
        figures[benchmark] = {
            "property": predicting[benchmark].name,
            "ids": len(rows),
            "n": len(known),
            "mae": float((known["prediction"] - known["label"]).abs().mean()) if len(known) else None,
            "median_mae": float((known["label"] - median).abs().mean()) if len(known) else None,
            "cgcnn": published.cgcnn,
            "alignn": published.alignn,
        }
    return figures


def _predicting(tasks: Sequence[Task]) -> dict[str, Task]:
    return {column: task for task in tasks for column in task.columns}


def _component(task: Task, benchmark: str, predicted: np.ndarray, details: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the prediction of a label column, (n,): the head's own component where it tells one, else the value."""
    title = dict(zip(task.columns, task.components, strict=False)).get(benchmark, "")
    component = details.get(title, np.full(len(predicted), np.nan))
    return np.where(np.isfinite(component), component, predicted)
