"""Prediction tables: as csv for machines, on the terminal for people."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crystrata.files import write_text
from crystrata.prediction.models import TrainedModel
from crystrata.reports.tables import DEMO_CAPTION

_SHOWN = 20  # rows printed on a terminal; the file has all
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_predictions(table: pd.DataFrame, path: Path, *, demo: bool) -> None:
    """Write a prediction table as csv; a demo model's table has a column that says so.

    Text that a spreadsheet would run as a formula gets a leading quote; numbers stay numbers.
    """
    if demo:
        table = table.assign(model="DEMO: labels are not DFT")
    text = table.select_dtypes(exclude="number").columns
    safe = table.assign(**{column: table[column].map(_harmless) for column in text})
    write_text(path, safe.to_csv(index=False))


def print_predictions(table: pd.DataFrame, model: TrainedModel, console: Console, *, written: str | None) -> None:
    """Print predictions: one block per structure for a few, a count for many; errors by name."""
    demo = model.facts["source"]["demo"]
    failed = table[table["error_code"] != ""]
    for row in table[table["error_code"] == ""].head(_SHOWN).to_dict("records"):
        shown = Table(title=Text(f"{row['id']}  ({row['formula']})"), title_justify="left", show_header=False, box=None)
        for column, value in row.items():
            if isinstance(value, float) and value == value:  # NaN: there is nothing to say
                name, _, unit = str(column).partition(" [")
                shown.add_row(name, f"{value:.4g}", unit.rstrip("]"))
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


def _harmless(value: object) -> object:
    if not isinstance(value, str):
        return value
    one_line = " ".join(value.splitlines()) if "\r" in value or "\n" in value else value
    return "'" + one_line if value.startswith(_FORMULA_STARTS) else one_line
