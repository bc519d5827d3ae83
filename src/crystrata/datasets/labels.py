"""The labels of a task: one flat array of values with offsets, which of them are known, and what a batch gets of them.

n materials, V values of all. A number or a class has one value a material, a vector k, a curve or sequence as many as
its cell holds. B materials of a batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import torch

from crystrata.datasets.batch import Targets
from crystrata.datasets.cells import Ragged, class_cells, curve_cells, number_cells, vector_cells
from crystrata.datasets.table_files import indexed_by_composition, read_tables
from crystrata.errors import DataError, nearest, unknown_name
from crystrata.sources.table import FRAMES_GIVEN
from crystrata.tasks import PARTS, Task


@dataclass(frozen=True)
class Labels:
    """Labels of one task, one sample a material.

    Attributes:
        values: In the unit of the task, (V,) float32, NaN where unknown; classes int64, -1 where unknown.
        offsets: First value of each material, (n + 1,). A curve without a usable coordinate has no values.
        known: True where a value may be learned, (V,): the base mask.
        t: Coordinate of each value, (V,) float32, always finite; None without one.
        width: Values of every material: 1, k of a vector; None for curves and sequences.
        components: Components of a tensor in the frame of the crystal's lattice, (n, k) float32, NaN where they or the
            frame are unknown; None where there are none.
    """

    values: np.ndarray
    offsets: np.ndarray
    known: np.ndarray
    t: np.ndarray | None = None
    width: int | None = 1
    components: np.ndarray | None = None

    @classmethod
    def of_numbers(cls, values: np.ndarray, components: np.ndarray | None = None) -> Labels:
        """Make labels of one number a material, (n,), NaN where unknown."""
        values = np.where(np.isfinite(values), values, np.nan).astype(np.float32)
        return cls(values, np.arange(len(values) + 1), np.isfinite(values), components=components)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def known_samples(self) -> np.ndarray:
        """True for the materials with at least one known value, (n,)."""
        if self.width == 1:
            return self.known
        before = np.concatenate([[0], np.cumsum(self.known)])
        has_known: np.ndarray = before[self.offsets[1:]] > before[self.offsets[:-1]]
        return has_known

    @property
    def numbers(self) -> np.ndarray:
        """Labels of one number a material, (n,) float32, NaN where unknown.

        Raises:
            TypeError: The task has other labels.
        """
        if self.width != 1:
            raise TypeError("only labels of one number a material are a column")
        return np.where(self.known, self.values, np.nan)

    def at(self, samples: np.ndarray) -> Labels:
        """Return the labels of other materials, those of sample `samples[i]` for material i; nothing known for -1."""
        there = samples >= 0
        lengths = np.where(there, np.diff(self.offsets)[samples] if len(self) else 0, 0)
        if self.width is not None:
            lengths = np.full(len(samples), self.width)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        first = self.offsets[:-1][samples] if len(self) else np.zeros(len(samples), dtype=np.int64)
        place = np.repeat(np.where(there, first, 0) - offsets[:-1], lengths) + np.arange(offsets[-1])
        found = np.repeat(there, lengths)
        unknown = np.nan if self.values.dtype.kind == "f" else -1
        if not len(self.values):
            values = np.full(offsets[-1], unknown, dtype=self.values.dtype)
            return Labels(values, offsets, np.zeros(len(values), dtype=bool), self.t, self.width)
        return Labels(
            values=np.where(found, self.values[place], unknown).astype(self.values.dtype),
            offsets=offsets,
            known=self.known[place] & found,
            t=None if self.t is None else self.t[place],
            width=self.width,
        )

    def hidden(self, materials: np.ndarray) -> Labels:
        """Return the labels with those of some materials unknown; `materials` (n,) is True for them."""
        known = self.known & ~np.repeat(materials, np.diff(self.offsets))
        components = self.components
        if components is not None:
            components = np.where(materials[:, None], np.nan, components).astype(np.float32)
        return replace(self, known=known, components=components)

    def targets(self, rows: np.ndarray, visible: np.ndarray | None = None) -> Targets:
        """Return the labels of some materials for a batch: (B,), (B, k), or ragged for curves.

        Args:
            rows: Positions of the materials, (B,).
            visible: False for materials whose label may not be seen, (n,); nothing is known of them.
        """
        if self.width is None:
            return self._curves(rows, visible)
        place = rows if self.width == 1 else rows[:, None] * self.width + np.arange(self.width)
        known = self.known[place]
        if visible is not None:
            known = known & (visible[rows] if self.width == 1 else visible[rows][:, None])
        values = np.where(known, self.values[place], 0).astype(self.values.dtype, copy=False)
        components = None
        if self.components is not None:
            components = _components(self.components[rows], None if visible is None else visible[rows])
        return Targets(torch.from_numpy(values), torch.from_numpy(known), components=components)

    def _curves(self, rows: np.ndarray, visible: np.ndarray | None) -> Targets:
        first = self.offsets[:-1][rows]
        lengths = self.offsets[1:][rows] - first
        if visible is not None:
            lengths = np.where(visible[rows], lengths, 0)
        place = np.repeat(first - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        known = self.known[place]
        values = np.where(known, self.values[place], 0).astype(self.values.dtype)
        t = None if self.t is None else torch.from_numpy(self.t[place])
        return Targets(torch.from_numpy(values), torch.from_numpy(known), t, torch.from_numpy(lengths))


def _components(values: np.ndarray, visible: np.ndarray | None) -> Targets:
    """Return component labels (B, k), all or none known, with their mask."""
    known = np.isfinite(values).all(axis=1)
    if visible is not None:
        known = known & visible
    return Targets(torch.from_numpy(np.nan_to_num(values)), torch.from_numpy(known))


@dataclass(frozen=True)
class KeyedLabels:
    """What the tables of a task hold, one sample a key.

    Attributes:
        keys: Canonical compositions or ids, all different, n of them.
        labels: Their labels.
        split: Part that the table puts a sample into, (n,) str; "" where it says nothing.
        written: The compositions or ids as the table writes them, n of them.
    """

    keys: tuple[str, ...]
    labels: Labels
    split: np.ndarray
    written: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)


def column_labels(task: Task, table: pd.DataFrame) -> Labels:
    """Return the labels of a task from the columns of a table of materials, row by row.

    A number of several columns is their mean, where all are known. The components of a tensor are known where the
    column `orientation` says that they are stated in the frame of the crystal's lattice.

    Raises:
        DataError: A label column is missing.
    """
    for column in task.columns:
        if column not in table.columns:
            raise DataError(
                f"the data source has no column {column!r}, which {task.name} needs{nearest(column, table.columns)}"
            )
    if not task.is_number:
        coordinate = table[task.t_column] if task.t_column else None
        return _read(task, table[task.columns[0]], coordinate, tuple(map(str, table.index)))
    columns = list(task.columns)
    values = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    with np.errstate(over="ignore"):  # beyond float32 is beyond physics: unknown
        numbers = values.mean(axis=1).astype(np.float32)  # NaN if any is
    components = None
    if len(columns) > 1 and "orientation" in table:
        each = table[columns].to_numpy(dtype=np.float32)
        framed = table["orientation"].isin(FRAMES_GIVEN).to_numpy() & np.isfinite(each).all(axis=1)
        components = np.where(framed[:, None], each, np.nan).astype(np.float32)
    return Labels.of_numbers(numbers, components)


def load_labels(
    tasks: Sequence[Task],
    *,
    table: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
    key_of: Callable[[str], str] = str,
    trust_pickle: bool = False,
) -> dict[str, KeyedLabels]:
    """Read the labels of all tasks from tables of their own; a file that several tasks share is read once.

    Args:
        tasks: The tasks; those without labels are ignored.
        table: One table for all tasks, or task -> table, in place of files.
        key_of: From a composition or id as written to its canonical key.
        trust_pickle: Whether pickled tables may be opened.

    Returns:
        Task -> labels.

    Raises:
        DataError: A task has neither files nor a table, or one of them cannot be used.
    """
    canonical = cache(key_of)

    @cache
    def read(files: tuple[str, ...], composition: str | None) -> pd.DataFrame:
        return read_tables(files, composition, trust_pickle=trust_pickle)

    found = {}
    for task in tasks:
        if task.labels == "none":
            continue
        given = table.get(task.name) if isinstance(table, Mapping) else table
        if given is not None:
            rows = indexed_by_composition(given, task.composition_column, f"the table of task {task.name!r}")
        elif task.data_files:
            rows = read(task.data_files, task.composition_column)
        else:
            raise DataError(f"task {task.name!r} has neither data_files nor a table")
        found[task.name] = labels_of(task, rows, canonical)
    return found


def no_labels(task: Task) -> KeyedLabels:
    """Return empty labels, for predicting without any table.

    Raises:
        DataError: The task has a coordinate, which only a table can tell.
    """
    if task.t_column:
        raise DataError(f"task {task.name!r} predicts over {task.t_column!r}: give a table that has this column")
    return labels_of(task, pd.DataFrame({task.columns[0]: []}, index=pd.Index([], dtype=object)), str)


def labels_of(task: Task, table: pd.DataFrame, key_of: Callable[[str], str]) -> KeyedLabels:
    """Read the labels of a task from its table.

    Of rows with the same key the first is kept. What is missing or cannot be read is unknown, with one warning of
    each sort.

    Args:
        task: The task, which has labels.
        table: Indexed by composition, None where there is none.
        key_of: From a composition as written to its canonical key.

    Raises:
        DataError: The table lacks the column of the coordinate, or names a part that is none.
    """
    table, keys = _distinct(task, table, key_of)
    if task.t_column and task.t_column not in table:
        raise DataError(
            f"task {task.name!r}: its table has no t_column {task.t_column!r}"
            f"{nearest(task.t_column, map(str, table.columns))}"
        )
    for column in task.columns:
        if column not in table:
            near = nearest(column, map(str, table.columns))
            warnings.warn(f"task {task.name!r}: its table has no column {column!r}{near}; no label", stacklevel=2)
    if len(task.columns) > 1 and all(column in table for column in task.columns):
        return KeyedLabels(keys, column_labels(task, table), _parts(task, table), tuple(map(str, table.index)))
    cells = table.get(task.columns[0], pd.Series(None, index=table.index, dtype=object))
    labels = _read(task, cells, table[task.t_column] if task.t_column else None, keys)
    return KeyedLabels(keys, labels, _parts(task, table), tuple(map(str, table.index)))


def _read(task: Task, cells: pd.Series, coordinate: pd.Series | None, keys: tuple[str, ...]) -> Labels:
    """Read one cell a material, with a warning of each sort of cells that are there but cannot be used."""
    if task.labels == "number":
        read = number_cells(cells)
    elif task.labels == "class":
        read = class_cells(cells, task.classes)
    elif task.labels == "vector":
        read = vector_cells(cells)
    else:
        read = curve_cells(cells, coordinate)
    _warn_of_unused(task, keys, read)
    return Labels(read.values, read.offsets, read.known, read.t, read.width)


def _distinct(task: Task, table: pd.DataFrame, key_of: Callable[[str], str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Leave out rows without a composition, and all but the first of each key."""
    there = ~table.index.isna()
    keys = pd.Index([key_of(name) for name in table.index[there]], dtype=object)
    again = keys.duplicated()
    if not there.all():
        warnings.warn(f"task {task.name!r}: {(~there).sum()} rows without a composition are left out", stacklevel=3)
    if again.any():
        examples = ", ".join(keys[again].unique()[:3])
        warnings.warn(
            f"task {task.name!r}: of compositions that occur again, the first row is kept: {again.sum()} rows left out "
            f"({examples})",
            stacklevel=3,
        )
    return table[there][~again], tuple(keys[~again])


def _parts(task: Task, table: pd.DataFrame) -> np.ndarray:
    """Return the part that the table states for each row, (n,) str."""
    if task.split_column not in table:
        return np.full(len(table), "", dtype=object)
    stated = table[task.split_column].astype(object)
    parts = stated.where(stated.notna(), "").astype(str).str.strip()
    for odd in sorted(set(parts.unique()) - {"", *PARTS}):
        known = unknown_name("part", odd, PARTS)
        raise DataError(f"task {task.name!r}, column {task.split_column!r}: {known}")
    found: np.ndarray = parts.to_numpy(dtype=object)
    return found


def _warn_of_unused(task: Task, keys: tuple[str, ...], read: Ragged) -> None:
    for reason, rows in read.unused.items():
        if len(rows):
            examples = ", ".join(keys[row] for row in rows[:3])
            warnings.warn(f"task {task.name!r}: {len(rows)} labels masked: {reason} ({examples})", stacklevel=4)
