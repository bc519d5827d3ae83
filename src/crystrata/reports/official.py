"""Answers and figures of whole official tests, those that compare with the JARVIS leaderboard. n test crystals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crystrata.datasets.splits import Split
from crystrata.properties import Property, records
from crystrata.published import PUBLISHED

COLUMNS = ("benchmark", "id", "label", "prediction")


def official_answers(
    split: Split,
    ids: Sequence[str],
    labels: pd.DataFrame,
    names: Sequence[str],
    predicted: np.ndarray,
    details: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """Return what a run answers to every official test that the split holds and a property of the run answers.

    Args:
        split: The split; its official tests are whole.
        ids: Keys of all crystals.
        labels: Label columns of all crystals, row by row.
        names: Properties.
        predicted: Their predictions on the test part, (n, P).
        details: What the heads say besides on the test part, title -> (n,).

    Returns:
        One row per benchmark and crystal, with `COLUMNS`: label (NaN where unknown) and prediction in the label's unit.
    """
    columns = {name: place for place, record in enumerate(records(names)) for name in record.columns}
    answering, answers = _answering(names), []
    for benchmark, rows in split.official_tests.items():
        if benchmark in columns:
            values = _answer(answering[benchmark], benchmark, predicted[:, columns[benchmark]], details)
            told = {
                "benchmark": benchmark,
                "id": [ids[row] for row in rows],
                "label": labels[benchmark].to_numpy(dtype=np.float64)[rows],
                "prediction": values[np.searchsorted(split.test, rows)],
            }
            answers.append(pd.DataFrame(told, columns=list(COLUMNS)))
    return pd.concat(answers, ignore_index=True) if answers else pd.DataFrame(columns=list(COLUMNS))


def official_figures(
    answers: pd.DataFrame, names: Sequence[str], train_labels: pd.DataFrame
) -> dict[str, dict[str, Any]]:
    """Return the figures of official tests.

    Args:
        answers: See `official_answers`.
        names: Properties.
        train_labels: Label columns of the training crystals.

    Returns:
        Benchmark -> `property`, `ids` (crystals of the official test), `n` (those with a label), `mae` over these and
        `median_mae`, that of predicting the median training label (None without any), in the label's unit, and the
        published `cgcnn` and `alignn`.
    """
    figures, answering = {}, _answering(names)
    for benchmark, rows in answers.groupby("benchmark", sort=False):
        known, published = rows.dropna(subset="label"), PUBLISHED[benchmark]
        median = train_labels[benchmark].median()
        figures[benchmark] = {
            "property": answering[benchmark].name,
            "ids": len(rows),
            "n": len(known),
            "mae": float((known["prediction"] - known["label"]).abs().mean()) if len(known) else None,
            "median_mae": float((known["label"] - median).abs().mean()) if len(known) else None,
            "cgcnn": published.cgcnn,
            "alignn": published.alignn,
        }
    return figures


def _answering(names: Sequence[str]) -> dict[str, Property]:
    return {column: record for record in records(names) for column in record.columns}


def _answer(record: Property, benchmark: str, predicted: np.ndarray, details: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the prediction of a label column, (n,): the head's own component where it tells one, else the value."""
    title = dict(zip(record.columns, record.components, strict=False)).get(benchmark, "")
    component = details.get(title, np.full(len(predicted), np.nan))
    return np.where(np.isfinite(component), component, predicted)
