"""The labels of a task: one flat array of values with offsets, and which of them are known.

n samples, V values of all samples. A scalar or a class has one value a sample, a vector k, a curve or sequence as many
as its cell holds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from crystrata.datasets.splits import PARTS
from crystrata.datasets.tasks.cells import Ragged, class_cells, curve_cells, scalar_cells, vector_cells
from crystrata.datasets.tasks.specs import TaskSpec
from crystrata.datasets.tasks.table_files import indexed_by_composition, read_tables
from crystrata.errors import DataError, nearest, unknown_name


@dataclass(frozen=True)
class TaskLabels:
    """What the tables of a task hold, one sample a composition.

    Attributes:
        keys: Canonical compositions, all different, n of them.
        values: Labels in the units of the table, (V,) float32, NaN where unknown; classes int64, -1 where unknown.
        offsets: First value of each sample, (n + 1,). A curve without a usable coordinate has no values.
        known: True where a value may be learned, (V,): the base mask.
        t: Coordinate of each value, (V,) float32, always finite; None without one.
        width: Values of every sample: 1, k of a vector; None for curves and sequences.
        split: Part that the table puts a sample into, (n,) str; "" where it says nothing.
    """

    keys: tuple[str, ...]
    values: np.ndarray
    offsets: np.ndarray
    known: np.ndarray
    t: np.ndarray | None
    width: int | None
    split: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.keys)

    @property
    def known_samples(self) -> np.ndarray:
        """True for the samples with at least one known value, (n,)."""
        before = np.concatenate([[0], np.cumsum(self.known)])
        has_known: np.ndarray = before[self.offsets[1:]] > before[self.offsets[:-1]]
        return has_known

    def take(self, samples: np.ndarray) -> TaskLabels:
        """Return some samples, in the order given."""
        lengths = np.diff(self.offsets)[samples]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        flat = np.repeat(self.offsets[samples] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return TaskLabels(
            keys=tuple(self.keys[sample] for sample in samples),
            values=self.values[flat],
            offsets=offsets,
            known=self.known[flat],
            t=None if self.t is None else self.t[flat],
            width=self.width,
            split=self.split[samples],
        )


def load_labels(
    specs: Sequence[TaskSpec],
    *,
    table: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
    key_of: Callable[[str], str] = str,
    trust_pickle: bool = False,
) -> dict[str, TaskLabels]:
    """Read the labels of all tasks; a file that several tasks share is read once.

    Args:
        specs: The tasks; autoencoders have no labels and are passed over.
        table: One table for all tasks, or task -> table, in place of files.
        key_of: From a composition as written to its canonical key.
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
    for spec in specs:
        if spec.kind == "autoencoder":
            continue
        given = table.get(spec.name) if isinstance(table, Mapping) else table
        if given is not None:
            rows = indexed_by_composition(given, spec.composition_column, f"the table of task {spec.name!r}")
        elif spec.data_files:
            rows = read(spec.data_files, spec.composition_column)
        else:
            raise DataError(f"task {spec.name!r} has neither data_files nor a table")
        found[spec.name] = labels_of(spec, rows, canonical)
    return found


def no_labels(spec: TaskSpec) -> TaskLabels:
    """Return empty labels, for predicting without any table.

    Raises:
        DataError: The task has a coordinate, which only a table can tell.
    """
    if spec.t_column:
        raise DataError(f"task {spec.name!r} predicts over {spec.t_column!r}: give a table that has this column")
    return labels_of(spec, pd.DataFrame({spec.data_column: []}, index=pd.Index([], dtype=object)), str)


def labels_of(spec: TaskSpec, table: pd.DataFrame, key_of: Callable[[str], str]) -> TaskLabels:
    """Read the labels of a task from its table.

    Of rows with the same key the first is kept. What is missing or cannot be read is unknown, with one warning of
    each sort.

    Args:
        spec: The task, not an autoencoder.
        table: Indexed by composition, None where there is none.
        key_of: From a composition as written to its canonical key.

    Raises:
        DataError: The table lacks the column of the coordinate, or names a part that is none.
    """
    table, keys = _distinct(spec, table, key_of)
    if spec.t_column and spec.t_column not in table:
        raise DataError(
            f"task {spec.name!r}: its table has no t_column {spec.t_column!r}"
            f"{nearest(spec.t_column, map(str, table.columns))}"
        )
    if spec.data_column not in table:
        near = nearest(spec.data_column, map(str, table.columns))
        warnings.warn(f"task {spec.name!r}: its table has no column {spec.data_column!r}{near}; no label", stacklevel=2)
    cells = table.get(spec.data_column, pd.Series(None, index=table.index, dtype=object))
    if spec.kind == "regression":
        read = scalar_cells(cells)
    elif spec.kind == "classification":
        read = class_cells(cells, spec.classes)
    elif spec.kind == "vector":
        read = vector_cells(cells)
    else:
        read = curve_cells(cells, table[spec.t_column] if spec.t_column else None)
    _tell_unused(spec, keys, read)
    return TaskLabels(keys, read.values, read.offsets, read.known, read.t, read.width, _parts(spec, table))


def _distinct(
    spec: TaskSpec, table: pd.DataFrame, key_of: Callable[[str], str]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Leave out rows without a composition, and all but the first of each key."""
    there = ~table.index.isna()
    keys = pd.Index([key_of(name) for name in table.index[there]], dtype=object)
    again = keys.duplicated()
    if not there.all():
        warnings.warn(f"task {spec.name!r}: {(~there).sum()} rows without a composition are left out", stacklevel=3)
    if again.any():
        examples = ", ".join(keys[again].unique()[:3])
        warnings.warn(
            f"task {spec.name!r}: of compositions that occur again, the first row is kept: {again.sum()} rows left out "
            f"({examples})",
            stacklevel=3,
        )
    return table[there][~again], tuple(keys[~again])


def _parts(spec: TaskSpec, table: pd.DataFrame) -> np.ndarray:
    """Return the part that the table states for each row, (n,) str."""
    if spec.split_column not in table:
        return np.full(len(table), "", dtype=object)
    stated = table[spec.split_column].astype(object)
    parts = stated.where(stated.notna(), "").astype(str).str.strip()
    for odd in sorted(set(parts.unique()) - {"", *PARTS}):
        known = unknown_name("part", odd, PARTS)
        raise DataError(f"task {spec.name!r}, column {spec.split_column!r}: {known}")
    found: np.ndarray = parts.to_numpy(dtype=object)
    return found


def _tell_unused(spec: TaskSpec, keys: tuple[str, ...], read: Ragged) -> None:
    """Warn once of each sort of cells that are there but cannot be used."""
    for reason, rows in read.unused.items():
        if len(rows):
            examples = ", ".join(keys[row] for row in rows[:3])
            warnings.warn(f"task {spec.name!r}: {len(rows)} labels masked: {reason} ({examples})", stacklevel=3)
