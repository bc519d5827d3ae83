"""Prediction tables: as csv and xlsx for machines and spreadsheets, on the terminal for people."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crystrata.errors import UsageError
from crystrata.files import write_atomically
from crystrata.prediction.predict import interval_titles
from crystrata.prediction.trained_model import TrainedModel
from crystrata.reports.tables import DEMO_CAPTION

_SHOWN = 20  # rows printed on a terminal; the file has all
_XLSX_ROWS = 1_048_576  # of a sheet, the titles included
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def check_table_path(path: Path) -> None:
    """Refuse a name before any work where the ending is not .csv or .xlsx, or xlsx needs a missing package."""
    if path.suffix.lower() not in (".csv", ".xlsx"):
        raise UsageError(f"{path}: tables are written as csv or xlsx; end the name in .csv or .xlsx")
    if path.suffix.lower() == ".xlsx" and importlib.util.find_spec("openpyxl") is None:
        raise UsageError(f"{path}: xlsx needs openpyxl: pip install 'crystrata[excel]', or end the name in .csv")


def write_spreadsheet(table: pd.DataFrame, path: Path) -> None:
    """Write a table, atomically. Numbers stay numbers; text that would run as a formula gets a leading quote.

    Raises a UsageError as `check_table_path` does, or where the table has more rows than a sheet of xlsx.
    """
    check_table_path(path)
    text = table.select_dtypes(exclude="number").columns
    numbers = table.select_dtypes(include="floating").columns
    safe = table.assign(
        **{column: table[column].map(_harmless) for column in text},
        **{column: table[column].map(_six_digits) for column in numbers},
    )
    if path.suffix.lower() == ".csv":
        content = safe.to_csv(index=False).encode()
    elif len(safe) < _XLSX_ROWS:
        buffer = io.BytesIO()
        safe.to_excel(buffer, index=False, engine="openpyxl", freeze_panes=(1, 0))
        content = buffer.getvalue()
    else:
        raise UsageError(f"{path}: {len(safe):,} rows are more than a sheet of xlsx holds; end the name in .csv")
    write_atomically(path, lambda file: file.write(content))


def _six_digits(value: float) -> float:
    """Return a number without the digits that a network in single precision does not know."""
    return float(f"{value:.6g}")


def _harmless(value: object) -> object:
    """Return text on one line, without control characters and undecodable bytes, that no spreadsheet runs."""
    if not isinstance(value, str):
        return value
    shown = "".join(character if character.isprintable() else " " for character in value.replace("\r\n", " "))
    return "'" + shown if value.startswith(_FORMULA_STARTS) else shown


def write_predictions(table: pd.DataFrame, path: Path, *, demo: bool) -> None:
    """Write a prediction table as csv or xlsx; a demo model's table has a column that says so."""
    write_spreadsheet(table.assign(model="DEMO: labels are not DFT") if demo else table, path)


def print_predictions(
    table: pd.DataFrame, model: TrainedModel, console: Console, *, items: str, written: str | None
) -> None:
    """Print predictions of `items`, structures or formulas: a block each of a few, a count of many; errors by name."""
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
    counts = f"{len(table)} {items}, {len(failed)} with errors" + (f", {hidden} not shown" if hidden else "")
    console.print(f"{counts}{f'; table: {written}' if written else ''}; model: {model.path}", soft_wrap=True)
    if demo:
        console.print(DEMO_CAPTION, style="bold yellow")
