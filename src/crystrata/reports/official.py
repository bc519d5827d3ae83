"""Figures over whole official tests: those that compare with the JARVIS leaderboard. n crystals of the test part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crystrata.datasets.splits import Split
from crystrata.properties import Property, records


def official_figures(
    split: Split, labels: pd.DataFrame, names: Sequence[str], predicted: np.ndarray, details: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
    """Return the figures of every official test that the split holds and a property of the run answers.

    Args:
        split: The split; its official tests are whole.
        labels: Label columns of all crystals, row by row.
        names: Properties.
        predicted: Their predictions on the test part, (n, P).
        details: What the heads say besides on the test part, title -> (n,).

    Returns:
        Benchmark -> `property`, `ids` (crystals of the official test), `n` (those with a label), `mae` over these (None
        without any) in the property's unit, and the published `cgcnn` and `alignn`, None where there is none.
    """
    figures = {}
    for benchmark, rows in split.official_tests.items():
        for column, record in enumerate(records(names)):
            if benchmark in record.columns:
                places = np.searchsorted(split.test, rows)
                answer = _answer(record, benchmark, predicted[:, column], details)[places]
                truth = labels[benchmark].to_numpy(dtype=np.float64)[rows]
                known = np.isfinite(truth)
                figures[benchmark] = {
                    "property": record.name,
                    "ids": len(rows),
                    "n": int(known.sum()),
                    "mae": float(np.abs(answer - truth)[known].mean()) if known.any() else None,
                    "cgcnn": record.cgcnn,
                    "alignn": record.alignn,
                }
    return figures


def _answer(record: Property, benchmark: str, predicted: np.ndarray, details: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the prediction of a label column, (n,): the head's own component where it tells one, else the value."""
    title = dict(zip(record.columns, record.components, strict=False)).get(benchmark, "")
    component = details.get(title, np.full(len(predicted), np.nan))
    return np.where(np.isfinite(component), component, predicted)
