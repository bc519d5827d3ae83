"""The table of one evaluated part, of properties or of tasks, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

_FIGURES = (
    # what the metrics hold, what the table calls it, the baseline among the metrics
    ("mae", "mean absolute error", "median_mae"),
    ("accuracy", "accuracy", "majority_accuracy"),
    ("mse", "mean squared error / variance", ""),
)


def part_table(title: str, metrics: Mapping[str, Mapping[str, Any] | None]) -> Table:
    """Return one row for each property or task: labels, figure of merit, and that of the training median or class."""
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("")
    for column in ("labels", "figure"):
        table.add_column(column)
    for column in ("value", "baseline"):
        table.add_column(column, justify="right")
    for name, found in metrics.items():
        if found is None:
            table.add_row(name, "0", "-", "-", "-")
            continue
        key, words, baseline = next(row for row in _FIGURES if row[0] in found)
        table.add_row(name, str(found["n"]), words, _number(found[key]), _number(found.get(baseline)))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.4g}"
