"""Label tables read from files: csv, parquet, JSON records, and pickles of a source that is trusted."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from crystrata.datasets.cells import GAPS
from crystrata.errors import DataError, nearest

USUAL = "composition"
"""Name of the column of compositions where no other is given."""


def read_tables(paths: Sequence[str | Path], composition: str | None, *, trust_pickle: bool = False) -> pd.DataFrame:
    """Read tables and concatenate their rows.

    Args:
        paths: At least one file: .csv, .csv.gz, .parquet, .json (a list of records; .json.gz), .pkl, .pd.xz.
        composition: Column of the compositions, or None for the index (the first column of a csv).
        trust_pickle: Whether .pkl and .pd.xz may be read: a pickle can run any program while it is opened.

    Returns:
        The columns of all tables, NaN where one lacks a column; the index holds the compositions as written.

    Raises:
        DataError: A file is missing, damaged, of another form, or lacks the compositions.
    """
    tables = [_read(Path(path), composition, trust_pickle) for path in paths]
    return tables[0] if len(tables) == 1 else pd.concat(tables)


def indexed_by_composition(table: pd.DataFrame, composition: str | None, source: str) -> pd.DataFrame:
    """Return a table whose index holds its compositions, None where there are none; the column stays.

    A table without the column `composition` may have them in a column `id`, in its first column if that has no name,
    or in an index that is no numbering.

    Raises:
        DataError: The table has neither a column nor an index of that name.
    """
    column = key_column(list(map(str, table.columns)), composition)
    if column is None or (column == table.index.name and column not in table):
        keys = table.index
    elif column in table:
        keys = pd.Index(table[column])
    elif composition == USUAL and not isinstance(table.index, pd.RangeIndex):
        keys = table.index
    else:
        near = nearest(str(composition), map(str, table.columns))
        raise DataError(
            f"{source} has no column {composition!r} of compositions{near}; composition_column names another one"
        )
    names = [None if gap else str(key).strip() or None for key, gap in zip(keys, keys.isna(), strict=True)]
    return table.set_axis(pd.Index(names, dtype=object), axis="index")


def key_column(columns: Sequence[str], composition: str | None) -> str | None:
    """Return the column that holds the compositions, by the name that is asked for; see `indexed_by_composition`."""
    if composition != USUAL or USUAL in columns:
        return composition
    if "id" in columns:
        return "id"
    return columns[0] if columns and (not columns[0] or columns[0].startswith("Unnamed: ")) else composition


def _read(path: Path, composition: str | None, trust_pickle: bool) -> pd.DataFrame:
    reader, is_pickle = _reader(path)
    if is_pickle and not trust_pickle:
        raise DataError(
            f"{path}: a pickle can run any program while it is opened. Write it as parquet or csv, or state that you "
            "trust its source (trust_pickle)."
        )
    try:
        table = reader(path, composition)
    except Exception as error:  # a pickle raises anything; pandas and pyarrow a dozen kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: no table can be read from it ({reason})") from None
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"{path}: holds a {type(table).__name__} where a table is expected")
    return indexed_by_composition(table, composition, str(path))


def _reader(path: Path) -> tuple[Callable[[Path, str | None], Any], bool]:
    """Return what reads a file of this name, and whether it opens a pickle."""
    for ending, (reader, is_pickle) in _READERS.items():
        if path.name.lower().endswith(ending):
            return reader, is_pickle
    raise DataError(f"{path}: tables are read from {', '.join(_READERS)}")


def _csv(path: Path, composition: str | None) -> pd.DataFrame:
    header = [str(name) for name in pd.read_csv(path, nrows=0).columns]
    column = header[0] if composition is None else key_column(header, composition)
    gaps = {name: GAPS for name in header if name != column}  # `NaN` is also sodium nitride
    table = pd.read_csv(path, dtype={column: str}, na_values=gaps, keep_default_na=False, low_memory=False)
    return table.set_index(column) if composition is None else table


def _parquet(path: Path, composition: str | None) -> pd.DataFrame:
    return pd.read_parquet(path)


def _json(path: Path, composition: str | None) -> pd.DataFrame:
    content = path.read_bytes()
    records = json.loads(gzip.decompress(content) if path.name.lower().endswith(".gz") else content)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError("it is no list of records")
    return pd.DataFrame(records)


def _pickle(path: Path, composition: str | None) -> object:
    found: object = pd.read_pickle(path)
    return found


_READERS: dict[str, tuple[Callable[[Path, str | None], Any], bool]] = {
    ".csv": (_csv, False),
    ".csv.gz": (_csv, False),
    ".parquet": (_parquet, False),
    ".json": (_json, False),
    ".json.gz": (_json, False),
    ".pkl": (_pickle, True),
    ".pd.xz": (_pickle, True),
}
