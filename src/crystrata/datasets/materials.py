"""The materials of a run: a crystal and/or a composition each, and what a source says about them. n materials."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import pandas as pd

from crystrata.datasets.labels import KeyedLabels, Labels
from crystrata.errors import DataError
from crystrata.graphs.arrays import GraphArrays
from crystrata.structures.crystal import Rejected
from crystrata.tasks import PARTS

NOWHERE = -1


@dataclass(frozen=True)
class Structures:
    """Crystals of materials.

    Attributes:
        graphs: Of all crystals.
        row: Crystal of each material, (n,); -1 where it has none.
    """

    graphs: GraphArrays
    row: np.ndarray

    @property
    def complete(self) -> bool:
        """Whether every material has a crystal."""
        return bool((self.row >= 0).all())


@dataclass(frozen=True)
class Materials:
    """The materials of a run, row by row.

    Attributes:
        ids: Distinct ids: those of the source, or compositions in canonical form.
        formulas: Reduced formula of each: materials of one formula stay on one side of a split.
        stated: Part that tables put each material into, (n,): its place in `PARTS`, -1 where none says so.
        structures: Crystals, or None where nothing reads them.
        listed: Task -> whether its own tables have the material, (n,), for tasks with tables of their own.
        written: Id -> the composition as the first table that has it writes it, in the order of the tables.
        rejected: Rows of a table of one's own that could not be used, with the reasons.
        table: Columns of the source, row by row, or None where labels have tables of their own.
        demo: Whether they are the demo crystals, whose labels are not DFT.
    """

    ids: tuple[str, ...]
    formulas: tuple[str, ...]
    stated: np.ndarray = field(default_factory=lambda: np.empty(0))
    structures: Structures | None = None
    listed: Mapping[str, np.ndarray] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)
    rejected: Sequence[Rejected] = ()
    table: pd.DataFrame | None = None
    demo: bool = False

    def __post_init__(self) -> None:
        if len(self.stated) != len(self.ids):
            object.__setattr__(self, "stated", np.full(len(self.ids), NOWHERE))

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, valid: np.ndarray) -> Materials:
        """Return some of the materials, such as those with a descriptor; `valid` (n,) is True for them."""
        structures = self.structures
        return replace(
            self,
            ids=tuple(one for one, stays in zip(self.ids, valid, strict=True) if stays),
            formulas=tuple(one for one, stays in zip(self.formulas, valid, strict=True) if stays),
            stated=self.stated[valid],
            structures=None if structures is None else Structures(structures.graphs, structures.row[valid]),
            listed={name: there[valid] for name, there in self.listed.items()},
            table=None if self.table is None else self.table.iloc[np.flatnonzero(valid)],
        )


def unite(
    labels: Mapping[str, KeyedLabels],
    further: Mapping[str, str] = MappingProxyType({}),
    formula_of: Callable[[str], str] = str,
) -> tuple[Materials, dict[str, Labels]]:
    """Return the materials that any table or list names, ascending, and the labels of every task aligned to them.

    Where tables state different parts for a key, test takes precedence over val, and val over train, with a warning.

    Args:
        labels: Task -> labels by key.
        further: Further canonical keys, such as those that are to be predicted, and how they are written.
        formula_of: From a key to its reduced formula.

    Raises:
        DataError: There is no key at all.
    """
    keys = sorted({*further, *(key for task in labels.values() for key in task.keys)})
    if not keys:
        raise DataError("no task has a composition, and none is listed to predict")
    row_of = {key: row for row, key in enumerate(keys)}
    aligned, listed, written = {}, {}, dict[str, str]()
    lowest, highest = np.full(len(keys), len(PARTS)), np.full(len(keys), NOWHERE)
    for name, task in labels.items():
        for key, text in zip(task.keys, task.written, strict=True):
            written.setdefault(key, text)
        rows = np.array([row_of[key] for key in task.keys], dtype=np.int64)
        samples = np.full(len(keys), NOWHERE)
        samples[rows] = np.arange(len(rows))
        aligned[name], listed[name] = task.labels.at(samples), samples >= 0
        part = np.array([PARTS.index(part) if part else NOWHERE for part in task.split], dtype=np.int64)
        rows, part = rows[part != NOWHERE], part[part != NOWHERE]
        lowest[rows], highest[rows] = np.minimum(lowest[rows], part), np.maximum(highest[rows], part)
    for key, text in further.items():
        written.setdefault(key, text)
    if (odd := np.flatnonzero((highest != NOWHERE) & (lowest < highest))).size:
        examples = ", ".join(keys[row] for row in odd[:3])
        warnings.warn(
            f"{len(odd)} compositions stand in different parts in different tables ({examples}): test takes precedence "
            "over val, and val over train",
            stacklevel=2,
        )
    return Materials(tuple(keys), tuple(map(formula_of, keys)), highest, listed=listed, written=written), aligned
