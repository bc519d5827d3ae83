"""Prediction tables: as files for machines and spreadsheets, on the terminal for people."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crystrata.prediction.predict import interval_titles
from crystrata.prediction.trained_model import TrainedModel
from crystrata.reports.spreadsheets import write_spreadsheet
from crystrata.reports.tables import DEMO_CAPTION

_SHOWN = 20  # rows printed on a terminal; the file has all


def write_predictions(table: pd.DataFrame, path: Path, *, demo: bool) -> None:
    """Write a prediction table as csv or xlsx; a demo model's table has a column that says so."""
    write_spreadsheet(table.assign(model="DEMO: labels are not DFT") if demo else table, path)


def print_predictions(table: pd.DataFrame, model: TrainedModel, console: Console, *, written: str | None) -> None:
    """Print predictions: one block per structure for a few, a count for many; errors by name."""
    demo = model.facts["source"]["demo"]
    failed = table[table["error_code"] != ""]
    for row in table[table["error_code"] == ""].head(_SHOWN).to_dict("records"):
        shown = Table(title=Text(f"{row['id']}  ({row['formula']})"), title_justify="left", show_header=False, box=None)
        numbers = {str(column): value for column, value in row.items() if isinstance(value, float) and value == value}
        intervals = {
            task.column: [numbers.pop(end) for end in interval_titles(task) if end in numbers] for task in model.tasks
        }
        for task in model.tasks:
            if task.labels == "class":
                shown.add_row(task.name, str(row[task.name]), "", "")
        for column, value in numbers.items():  # what is NaN has nothing to say
            name, _, unit = column.partition(" [")
            ends = " to ".join(f"{end:.4g}" for end in intervals.get(column, ()))
            shown.add_row(name, f"{value:.4g}", unit.rstrip("]"), ends)
        console.print(shown)
        if row["warning"]:
            console.print(f"  warning: {row['warning']}", style="yellow")
    for row in failed.head(_SHOWN).to_dict("records"):
        console.print(f"{row['id']}: {row['error_code']}: {row['error']}", style="red", soft_wrap=True)
    hidden = len(table) - len(table[table["error_code"] == ""].head(_SHOWN)) - len(failed.head(_SHOWN))
    console.print(
        f"{len(table)} structures, {len(failed)} with errors"
        + (f", {hidden} not shown" if hidden else "")
        + (f"; table: {written}" if written else "")
        + f"; model: {model.path}",
        soft_wrap=True,
    )
    if demo:
        console.print(DEMO_CAPTION, style="bold yellow")
