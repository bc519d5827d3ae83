"""The compact parquet form: which columns are labels, all of them as arrays, and crystals streamed row by row.

R rows, B usable crystals.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crystrata.elements import SYMBOLS
from crystrata.errors import DataError
from crystrata.sources.jarvis.containers import damaged
from crystrata.sources.jarvis.records import number_of
from crystrata.sources.table import FRAMES_GIVEN
from crystrata.structures.crystal import Crystal

REQUIRED_COLUMNS = ("jid", "lattice", "atomic_numbers", "frac_coords")

STRUCTURE_COLUMNS = frozenset(
    (*REQUIRED_COLUMNS, "id", "atoms", "formula", "natoms", "nat", "orientation", "structure_source",
     "spg", "spg_number", "spg_symbol", "spacegroup", "crys", "dft_3d_2021_index")
)  # fmt: skip
"""Columns and record keys that describe the crystal or the file; every other numeric one is a label."""

_NUMBERS_PER_ODD_VALUE = 9  # a column is a label where at least nine of ten known values are numbers


class LabelColumns:
    """Label columns that grow record by record; records need not all have the same keys."""

    def __init__(self) -> None:
        self._values: dict[str, array[float]] = {}
        self._odd: dict[str, int] = {}
        self._rows = 0

    def append(self, record: dict[str, Any]) -> None:
        """Add the labels of one record."""
        for key, value in record.items():
            if key in STRUCTURE_COLUMNS:
                continue
            number = number_of(value)
            if number is None:
                self._odd[key] = self._odd.get(key, 0) + 1
                number = math.nan
            column = self._values.setdefault(key, array("d"))
            self._pad(column)
            column.append(number)
        self._rows += 1

    def _pad(self, column: array[float]) -> None:
        column.extend([math.nan] * (self._rows - len(column)))

    def finish(self) -> tuple[dict[str, np.ndarray], dict[str, int], list[str]]:
        """Return label columns, how many odd values became NaN in them, and the names of columns left out as text."""
        labels, odd_values, left_out = {}, {}, []
        for key, column in self._values.items():
            self._pad(column)
            values = np.array(column, dtype=np.float64)
            odd = self._odd.get(key, 0)
            if odd and np.isfinite(values).sum() < _NUMBERS_PER_ODD_VALUE * odd:
                left_out.append(key)
                continue
            labels[key] = values
            if odd:
                odd_values[key] = odd
        return labels, odd_values, left_out


def reduced_formulas(numbers: np.ndarray, counts: np.ndarray) -> list[str]:
    """Return what `reduced_formula` gives for each of many crystals, at once: 0.2 s for the 2021 release.

    `numbers`: atomic numbers of all crystals, one after the other, (sum N,); `counts`: atoms in each, (B,), at least 1.
    """
    alphabetical = sorted(range(len(SYMBOLS)), key=SYMBOLS.__getitem__)
    rank = np.empty(len(SYMBOLS), dtype=np.int64)
    rank[alphabetical] = np.arange(len(SYMBOLS))
    rows = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    # one key per atom; sorted, the keys run through the crystals and, inside each, through its symbols
    keys, amounts = np.unique(rows * 128 + rank[numbers.astype(np.int64) - 1], return_counts=True)
    starts = np.searchsorted(keys, np.arange(len(counts)) * 128)
    elements_per_row = np.diff(np.append(starts, len(keys)))
    amounts = amounts // np.repeat(np.gcd.reduceat(amounts, starts), elements_per_row)
    symbols = [SYMBOLS[index] for index in alphabetical]
    pieces = [
        symbols[key] if amount == 1 else f"{symbols[key]}{amount}"
        for key, amount in zip((keys & 127).tolist(), amounts.tolist(), strict=True)
    ]
    ends = np.append(starts[1:], len(keys))
    return ["".join(pieces[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_BATCH_ROWS = 2048
MAX_REPEATED_SHARE = 0.01  # the official 2021 release repeats 11 of its 55,712 ids
_LISTS = ("lattice", "atomic_numbers", "frac_coords")


@dataclass(frozen=True)
class Ragged:
    """A list in each row: `values` one after the other, `lengths` (R,)."""

    values: np.ndarray
    lengths: np.ndarray

    def rows(self) -> np.ndarray:
        """Row of each value, (len(values),)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


@dataclass(frozen=True)
class CompactColumns:
    """All columns of a compact file."""

    ids: list[str | None]  # JARVIS ids, (R,), None where missing
    lattice: Ragged  # nine floats a row [A]
    numbers: Ragged  # atomic numbers, 0 where null
    frac: Ragged  # fractional coordinates, three a atom, x y z x y z
    orientation: np.ndarray  # see `FRAMES_GIVEN`; `unknown` where the file does not say, (R,)
    spacegroup: np.ndarray | None  # space group numbers, 0 where unknown, or None without such a column, (R,)
    labels: dict[str, np.ndarray]  # label columns, float64 (R,), NaN where unknown
    left_out: list[str]  # names of further columns that are no numbers
    metadata: dict[bytes, bytes]  # key-value text that was stored with the file

    def frame_given(self) -> np.ndarray:
        """Whether tensor components may refer to the lattice as it stands, (R,)."""
        return np.isin(self.orientation, FRAMES_GIVEN)


def repeated(path: Path, ids: list[str | None]) -> list[int]:
    """Return the rows whose id stood in an earlier row; a DataError if these are more than a stray few."""
    seen: set[str] = set()
    rows = []
    for row, id in enumerate(ids):
        if id is None:
            continue
        if id in seen:
            rows.append(row)
        seen.add(id)
    if len(rows) > MAX_REPEATED_SHARE * len(ids):
        times = Counter(ids)
        named = ", ".join(f"{ids[row]} ({times[ids[row]]} times)" for row in rows[:3])
        raise damaged(path, f"repeats {len(rows)} of {len(ids)} jids, such as {named}; each may stand there once")
    return rows


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, f"is cut or damaged, or no parquet file ({str(error).splitlines()[0]})") from None


def read_columns(path: Path) -> CompactColumns:
    """Read all columns of a compact file; a DataError if it is damaged, empty, or lacks a column."""
    with _opened(path) as file:
        known = file.schema_arrow.names
        if missing := [name for name in REQUIRED_COLUMNS if name not in known]:
            raise damaged(
                path, f"lacks the columns {', '.join(missing)} of the compact form (it has {', '.join(known[:20])})"
            )
        table = file.read()
        metadata = file.schema_arrow.metadata or {}
    if not table.num_rows:
        raise damaged(path, "holds no crystal")
    labels, left_out = _labels(table)
    lattice, numbers, frac = (_ragged(path, table, name) for name in _LISTS)
    return CompactColumns(
        ids=_ids(path, table),
        lattice=lattice,
        numbers=numbers,
        frac=frac,
        orientation=_orientation(table),
        spacegroup=_spacegroup(table),
        labels=labels,
        left_out=left_out,
        metadata=metadata,
    )


def _ids(path: Path, table: pa.Table | pa.RecordBatch) -> list[str | None]:
    import pyarrow as pa

    kind = table["jid"].type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise damaged(path, f"has a column jid of type {kind} where text is expected")
    ids: list[str | None] = table["jid"].cast(pa.large_string()).to_pylist()
    return ids


def _ragged(path: Path, table: pa.Table | pa.RecordBatch, name: str) -> Ragged:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table[name]
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise damaged(path, f"has a column {name} of type {kind} where lists of numbers are expected")
    if not (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)):
        raise damaged(path, f"has a column {name} with {kind.value_type} inside where numbers are expected")
    if name == "atomic_numbers" and not pa.types.is_integer(kind.value_type):
        raise damaged(path, f"has a column {name} with {kind.value_type} inside where whole numbers are expected")
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    values = pc.list_flatten(column)
    if name == "atomic_numbers":
        return Ragged(pc.fill_null(values, 0).to_numpy(), lengths)
    flat = values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False)
    return Ragged(flat.astype(np.float64), lengths)


def _labels(table: pa.Table) -> tuple[dict[str, np.ndarray], list[str]]:
    import pyarrow as pa

    labels, left_out = {}, []
    for name in table.column_names:
        if name in STRUCTURE_COLUMNS or name.startswith("__"):  # pandas names its index columns so
            continue
        kind = table[name].type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
            values = table[name].to_numpy().astype(np.float64)
            labels[name] = np.where(np.isfinite(values), values, np.nan)
        else:
            left_out.append(name)
    return labels, left_out


def _orientation(table: pa.Table) -> np.ndarray:
    import pyarrow as pa

    if "orientation" not in table.column_names:
        return np.full(table.num_rows, "unknown", dtype=object)
    frames = table["orientation"].cast(pa.string()).fill_null("unknown")
    return np.array(frames.to_pylist(), dtype=object)


def _spacegroup(table: pa.Table) -> np.ndarray | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if "spg" not in table.column_names or not pa.types.is_integer(table["spg"].type):
        return None
    numbers: np.ndarray = pc.fill_null(table["spg"], 0).to_numpy().astype(np.int64)
    return numbers


def stream_crystals(path: Path, keep: np.ndarray, frame_given: np.ndarray, stamp: tuple[int, int]) -> Iterator[Crystal]:
    """Yield the usable crystals of a compact file in row order, a few thousand rows in memory at a time.

    Args:
        path: Compact file.
        keep: Which rows are usable, (R,) bool.
        frame_given: Whether the orientation of each row is given, (R,) bool.
        stamp: `file_stamp` when the labels were read: rows of another file must never meet these labels (a DataError).
    """
    if file_stamp(path) != stamp:
        raise DataError(f"{path}: changed since its labels were read. Start the command again.")
    start = 0
    with _opened(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(REQUIRED_COLUMNS)):
            rows = slice(start, start + batch.num_rows)
            yield from _crystals(path, batch, keep[rows], frame_given[rows])
            start += batch.num_rows


def _crystals(path: Path, batch: Any, keep: np.ndarray, frame_given: np.ndarray) -> Iterator[Crystal]:
    ids = _ids(path, batch)
    columns = [_ragged(path, batch, name) for name in _LISTS]
    ends = [np.cumsum(column.lengths) for column in columns]
    for row in np.flatnonzero(keep):
        lattice, numbers, frac = (
            column.values[end[row] - column.lengths[row] : end[row]] for column, end in zip(columns, ends, strict=True)
        )
        yield Crystal.create(str(ids[row]), lattice, numbers, frac, orientation_given=bool(frame_given[row]))


def file_stamp(path: Path) -> tuple[int, int]:
    """Return size and time of change of a file: cheap to compare, enough to notice a replaced one."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns
