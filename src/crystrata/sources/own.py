"""A table of one's own and the structure files that its rows name, as a source of crystals. n rows."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crystrata.errors import DataError, nearest
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal, Rejected
from crystrata.structures.readers import read_crystals
from crystrata.structures.readers.formats import format_of

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 3  # ids that a message names


def read_own_table(path: Path) -> pd.DataFrame:
    """Read a table: csv, tsv, xlsx, parquet, json (a list of records) or jsonl; everything of a text table is text.

    Raises:
        DataError: There is no such file, it is damaged, empty, or of another kind.
    """
    import pandas as pd

    text: dict[str, Any] = {"dtype": str, "keep_default_na": False}
    readers: dict[str, Callable[[], pd.DataFrame]] = {
        ".csv": lambda: pd.read_csv(path, **text),
        ".csv.gz": lambda: pd.read_csv(path, **text),
        ".tsv": lambda: pd.read_csv(path, sep="\t", **text),
        ".xlsx": lambda: pd.read_excel(path, **text),
        ".parquet": lambda: pd.read_parquet(path),
        ".json": lambda: pd.read_json(path, dtype=False),
        ".jsonl": lambda: pd.read_json(path, lines=True, dtype=False),
    }
    reader = next((read for ending, read in readers.items() if path.name.lower().endswith(ending)), None)
    if reader is None:
        raise DataError(f"{path}: tables are read from {', '.join(readers)}")
    try:
        table = reader()
    except ImportError:
        raise DataError(f"{path}: xlsx needs openpyxl: pip install 'crystrata[excel]', or save it as csv") from None
    except Exception as error:  # pandas and pyarrow raise a dozen kinds
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: no table can be read from it ({reason})") from None
    if table.empty:
        raise DataError(f"{path} has no rows")
    return table.rename(columns=lambda name: str(name).strip())


def column_of(table: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """Return a column by its name, in small or capital letters, with or without the unit in brackets behind it.

    Raises:
        DataError: There is none; the nearest one is named.
    """
    for exact in (True, False):
        for column in table.columns:
            bare = re.split(r"\s*[\[(]", column)[0]
            if name == column or (not exact and name.casefold() in (column.casefold(), bare.casefold())):
                return table[column]
    near = nearest(name, map(str, table.columns))
    raise DataError(f"{path} has no column {name!r}{near} (columns: {', '.join(map(str, table.columns[:12]))})")


def open_own(path: Path, structures: Path, id_column: str | None = None) -> tuple[CrystalTable, list[Rejected]]:
    """Open a table with the structures that its rows name; a row that cannot be used is rejected, with the reason.

    Args:
        path: The table; each row names a structure by its id or file, `GaAs.cif` or `GaAs`.
        structures: A folder, an archive or a file with the structures.
        id_column: Column that names the structure; that which names the most of them if not given.

    Raises:
        DataError: The table or column cannot be used, or no row names a structure.
    """
    table, crystals, unreadable = read_own_table(path), dict[str, Crystal](), dict[str, Rejected]()
    for item in read_crystals(structures):
        if isinstance(item, Rejected):
            unreadable.setdefault(item.id, item)
        else:
            crystals.setdefault(item.id, item)
    if not crystals:
        first = next(iter(unreadable.values()), None)
        raise DataError(f"{structures}: no structure can be read from it" + (f" ({first.reason})" if first else ""))
    names = _names(table, id_column, path, crystals)
    chosen, rows, rejected = list[Crystal](), list[int](), list[Rejected]()
    for row, name in enumerate(names):
        if name in crystals:
            chosen.append(crystals[name])
            rows.append(row)
        elif name in unreadable:
            rejected.append(Rejected(f"row {row + 1}: {name}", unreadable[name].code, unreadable[name].reason))
        else:
            why = f"no structure of this name under {structures}" if name else "the row names no structure"
            rejected.append(Rejected(f"row {row + 1}: {name}", "no_structure", why))
    if not chosen:
        have, given = ", ".join(list(crystals)[:_SHOWN]), ", ".join(sorted({*names})[:_SHOWN])
        raise DataError(
            f"no row of {path} names a structure under {structures}: its rows name {given}, the structures are {have}; "
            "--id says which column names them"
        )
    return _as_source(path, structures, table, chosen, rows, rejected)


def _as_source(
    path: Path, structures: Path, table: pd.DataFrame, chosen: list[Crystal], rows: list[int], rejected: list[Rejected]
) -> tuple[CrystalTable, list[Rejected]]:
    import pandas as pd

    again = {id for id, count in Counter(crystal.id for crystal in chosen).items() if count > 1}
    ids, seen = [], Counter[str]()
    for crystal in chosen:  # rows of one structure are different materials of one formula: one side of a split
        seen[crystal.id] += 1
        ids.append(f"{crystal.id}#{seen[crystal.id]}" if crystal.id in again else crystal.id)
    labels = table.iloc[rows].set_axis(pd.Index(ids, dtype=object, name="id"), axis="index")
    labels["formula"] = [crystal.formula for crystal in chosen]
    provenance = {"file": path.name, "structures": structures.name, "rows": len(table), "rejected": len(rejected)}
    source = CrystalTable(
        path.name, _digest(ids, chosen), labels, partial(_renamed, ids, chosen), provenance=provenance
    )
    return source, rejected


def _renamed(ids: list[str], crystals: list[Crystal]) -> Any:
    return (replace(crystal, id=id) for id, crystal in zip(ids, crystals, strict=True))


def _names(table: pd.DataFrame, id_column: str | None, path: Path, crystals: Mapping[str, Crystal]) -> list[str]:
    """Return the structure that each row names, without folder and ending."""
    if id_column is not None:
        return list(map(_plain, column_of(table, id_column, path)))
    found = {name: list(map(_plain, table[name])) for name in table.columns if table[name].dtype.kind not in "fcb"}
    if not found:
        raise DataError(f"{path} has no column of text that could name structures: --id says which one does")
    return max(found.values(), key=lambda names: sum(name in crystals for name in names))


def _plain(cell: Any) -> str:
    name = str(cell).strip().replace("\\", "/").rpartition("/")[2]
    known = format_of(name)
    return known[1] if known else name


def _digest(ids: list[str], crystals: list[Crystal]) -> str:
    digest = hashlib.sha256("\n".join(ids).encode())
    for crystal in crystals:
        for values in (crystal.lattice, crystal.frac, crystal.numbers):
            digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    return digest.hexdigest()
