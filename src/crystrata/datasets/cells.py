"""From the cells of a label column to flat numbers: scalars, classes, vectors, curves. n cells, V values."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

GAPS = ["", "nan", "NaN", "NAN", "-nan", "na", "NA", "N/A", "n/a", "null", "NULL", "None", "<NA>", "#N/A"]
"""Texts that stand for an unknown value; JARVIS writes `na`."""

_UNREADABLE = "their cells cannot be read"


@dataclass(frozen=True)
class Ragged:
    """The values of a column.

    Attributes:
        values: All values, (V,): float32, NaN where unknown; classes int64, -1 where unknown.
        offsets: First value of each cell, (n + 1,).
        known: True where a value is there, (V,).
        t: Coordinate of each value, (V,) float32, or None.
        width: Values of every cell, or None.
        unused: Why cells with something in them were not used -> their rows.
    """

    values: np.ndarray
    offsets: np.ndarray
    known: np.ndarray
    t: np.ndarray | None = None
    width: int | None = None
    unused: dict[str, np.ndarray] = field(default_factory=dict)


def number_cells(cells: pd.Series) -> Ragged:
    """Read one number a cell."""
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    unreadable = np.isnan(numbers) & ~_missing(cells)
    values = _float32(numbers)
    unused = {_UNREADABLE: np.flatnonzero(unreadable)}
    return Ragged(values, np.arange(len(values) + 1), np.isfinite(values), width=1, unused=unused)


def class_cells(cells: pd.Series, classes: Sequence[str]) -> Ragged:
    """Read one class a cell: its name, or its index where no name is that number; -1 is unknown."""
    index = {str(position): position for position in range(len(classes))}
    index |= {name: position for position, name in enumerate(classes)}
    names = ["" if gap else _class_name(cell) for cell, gap in zip(cells, _missing(cells), strict=True)]
    values = np.array([index.get(name, -1) for name in names], dtype=np.int64)
    odd = [row for row, name in enumerate(names) if values[row] < 0 and name not in ("", "-1")]
    unused = {f"none of the classes {', '.join(classes)}": np.array(odd, dtype=np.int64)}
    return Ragged(values, np.arange(len(values) + 1), values >= 0, width=1, unused=unused)


def vector_cells(cells: pd.Series) -> Ragged:
    """Read k numbers a cell, each known or not; k is the length that most cells have (0 where there is none)."""
    lists = [number_list(cell) for cell in cells]
    lengths = np.array([0 if numbers is None else len(numbers) for numbers in lists], dtype=np.int64)
    width = int(np.bincount(lengths[lengths > 0]).argmax()) if lengths.any() else 0
    values = np.full((len(lists), width), np.nan, dtype=np.float32)
    if fitting := [numbers for numbers in lists if numbers is not None and len(numbers) == width]:
        values[lengths == width] = _float32(np.stack(fitting))
    unused = {
        _UNREADABLE: np.flatnonzero((lengths == 0) & ~_missing(cells)),
        f"not of {width} components like the others": np.flatnonzero((lengths > 0) & (lengths != width)),
    }
    offsets = np.arange(len(lists) + 1) * width
    return Ragged(values.reshape(-1), offsets, np.isfinite(values.reshape(-1)), width=width, unused=unused)


def curve_cells(cells: pd.Series, steps: pd.Series | None) -> Ragged:
    """Read a list of numbers a cell, over a coordinate if there is one.

    A cell whose coordinate is missing, unreadable or not finite has no values. One that is itself missing or of
    another length than its coordinate has unknown values at each coordinate, where it can be predicted.
    """
    unreadable, lengths_differ, without_steps = [], [], []
    missing = _missing(cells)
    values: list[np.ndarray] = []
    coordinates: list[np.ndarray] = []
    nothing = np.empty(0)
    for row, cell in enumerate(cells):
        numbers = nothing if missing[row] else number_list(cell)
        if numbers is None:
            unreadable.append(row)
            numbers = nothing
        if steps is not None:
            axis = number_list(steps.iloc[row])
            if axis is None or not np.isfinite(_float32(axis)).all():
                if len(numbers):
                    without_steps.append(row)
                axis = numbers = nothing
            elif len(numbers) != len(axis):
                if len(numbers):
                    lengths_differ.append(row)
                numbers = np.full(len(axis), np.nan)
            coordinates.append(axis)
        values.append(numbers)
    flat = _float32(np.concatenate([nothing, *values]))
    unused = {
        _UNREADABLE: unreadable,
        "they and their coordinates differ in length": lengths_differ,
        "their coordinates are missing or not finite": without_steps,
    }
    return Ragged(
        values=flat,
        offsets=np.concatenate([[0], np.cumsum([len(numbers) for numbers in values], dtype=np.int64)]),
        known=np.isfinite(flat),
        t=None if steps is None else _float32(np.concatenate([nothing, *coordinates])),
        unused={reason: np.array(rows, dtype=np.int64) for reason, rows in unused.items()},
    )


def number_list(cell: object) -> np.ndarray | None:
    """Return the numbers of a cell, (k,) float64 with k > 0: a list, an array, or the text of one in Python or JSON.

    None stands for what is no list of numbers; `None`, `null` and `nan` inside a list are NaN.
    """
    if isinstance(cell, str):
        cell = _parsed(cell)
    if not isinstance(cell, (list, tuple, np.ndarray)) or not len(cell):
        return None
    try:
        numbers = np.asarray(cell, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if numbers.ndim == 1 else None


def _parsed(text: str) -> object:
    """Return what a text stands for, None if nothing; JSON first, which is read ten times as fast."""
    try:
        return json.loads(text.replace("nan", "NaN"))
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _class_name(cell: object) -> str:
    """Return a cell as the name of a class; 2.0, which a gap in the column makes of 2, is `2`."""
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def _missing(cells: pd.Series) -> np.ndarray:
    """Return whether nothing is in a cell, (n,)."""
    empty = [isinstance(cell, str) and cell.strip() in GAPS for cell in cells]
    gaps: np.ndarray = cells.isna().to_numpy() | np.array(empty, dtype=bool)
    return gaps


def _float32(numbers: np.ndarray) -> np.ndarray:
    """Return numbers as float32; what is beyond it is NaN."""
    with np.errstate(over="ignore"):
        small = numbers.astype(np.float32)
    return np.where(np.isfinite(small), small, np.float32(np.nan))
