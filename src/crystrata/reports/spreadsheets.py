"""Tables as files that spreadsheets open: csv and xlsx, the ending of the name decides."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import pandas as pd

from crystrata.errors import UsageError
from crystrata.files import write_atomically

_XLSX_ROWS = 1_048_576  # of a sheet, the titles included
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def check_table_path(path: Path) -> None:
    """Refuse a name that no table can be written under, before any work is done.

    Raises:
        UsageError: The ending is neither .csv nor .xlsx, or xlsx needs a package that is missing.
    """
    if path.suffix.lower() not in (".csv", ".xlsx"):
        raise UsageError(f"{path}: tables are written as csv or xlsx; end the name in .csv or .xlsx")
    if path.suffix.lower() == ".xlsx" and importlib.util.find_spec("openpyxl") is None:
        raise UsageError(f"{path}: xlsx needs openpyxl: pip install 'crystrata[excel]', or end the name in .csv")


def write_spreadsheet(table: pd.DataFrame, path: Path) -> None:
    """Write a table, atomically. Numbers stay numbers; text that would run as a formula gets a leading quote.

    Raises:
        UsageError: See `check_table_path`; or the table has more rows than a sheet of xlsx.
        StorageError: The file cannot be written.
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
