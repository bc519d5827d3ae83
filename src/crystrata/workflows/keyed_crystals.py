"""The crystals that the keys of tables stand for: by their id, else by the reduced formula. n keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from crystrata.compositions.descriptors import DescriptorSource
from crystrata.compositions.keys import group_key
from crystrata.datasets.materials import Structures
from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.store import open_store
from crystrata.runs.config import RunConfig
from crystrata.sources.opening import open_source


@dataclass(frozen=True)
class KeyedCrystals:
    """Crystals, known by their ids and their reduced formulas.

    Attributes:
        graphs: Of all crystals.
        row_of: Id -> crystal, and reduced formula -> the first crystal that has it; an id takes precedence.
        formulas: Reduced formula of each crystal.
    """

    graphs: GraphArrays
    row_of: dict[str, int]
    formulas: tuple[str, ...]

    def formula(self, key: str) -> str:
        """Return the reduced formula of a key: that of its crystal where it has one."""
        formula = group_key(key)
        row = self.row_of.get(key, self.row_of.get(formula))
        return formula if row is None else self.formulas[row]

    def structures(self, keys: Sequence[str]) -> Structures:
        """Return the crystals of some keys."""
        row = [self.row_of.get(key, self.row_of.get(group_key(key), -1)) for key in keys]
        return Structures(self.graphs, np.array(row, dtype=np.int64))


class NamedCrystals:
    """Any source of descriptors, which sees the formula of a crystal in place of its id.

    Args:
        source: Where descriptors come from.
        crystals: The crystals; other keys are handed on as they are.
    """

    def __init__(self, source: DescriptorSource, crystals: KeyedCrystals) -> None:
        self._source, self._crystals = source, crystals
        self.names, self.digest = source.names, source.digest

    def describe(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See `DescriptorSource.describe`."""
        row_of, formulas = self._crystals.row_of, self._crystals.formulas
        return self._source.describe([formulas[row_of[key]] if key in row_of else key for key in keys])


def open_crystals(config: RunConfig, console: Console) -> KeyedCrystals:
    """Open the crystals of a run, their graphs built where they are not yet.

    Raises:
        CrystrataError: The source cannot be opened, or the disk is full.
    """
    table = open_source(config.source, config.release, config.data_file, Path(config.data_dir), console)
    store = open_store(table, config.graph, Path(config.data_dir) / "stores", workers=config.workers)
    labels = table.labels.iloc[np.asarray(store.arrays.source_row)]
    formulas = tuple(map(str, labels["formula"]))
    row_of: dict[str, int] = {}
    for row, formula in enumerate(formulas):
        row_of.setdefault(group_key(formula), row)
    row_of.update(zip(map(str, labels.index), range(len(labels)), strict=True))
    return KeyedCrystals(store.arrays, row_of, formulas)
