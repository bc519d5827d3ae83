"""Where the materials of a run come from: the crystals of a source with their graph store, or the tables of the tasks,
joined with the crystals that their keys stand for. Also the store alone, built ahead or carried between machines.

A key of a table is the id of a crystal, or the reduced formula of one. n keys.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from crystrata.compositions.descriptors import CachedDescriptors, DescriptorSource, describe_valid, descriptor_source
from crystrata.compositions.element_features import load_element_features
from crystrata.compositions.keys import composition_key, group_key
from crystrata.datasets.dataset import CrystalPropertyDataset
from crystrata.datasets.labels import Labels, load_labels
from crystrata.datasets.materials import Materials, Structures, unite
from crystrata.datasets.selection import listed_keys
from crystrata.datasets.splits.saved import read_split
from crystrata.errors import UsageError
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.portable import export_portable, import_portable
from crystrata.graphs.store import GraphStore, open_store
from crystrata.runs.config import RunConfig
from crystrata.sources import Source
from crystrata.sources.opening import open_source
from crystrata.sources.own import open_own
from crystrata.structures.crystal import Rejected

Tables: TypeAlias = pd.DataFrame | Mapping[str, pd.DataFrame] | None
_Data: TypeAlias = tuple[Materials, dict[str, Labels], np.ndarray | None, dict[str, Any]]
SAVED, TEST_ALL = "saved", "test-all"


@dataclass(frozen=True)
class Inputs:
    """What a program hands over in place of what a configuration names.

    Attributes:
        table: Labels in memory: one table for all tasks, or task -> table.
        descriptors: Descriptors.
        trust_pickle: Whether pickled tables may be opened; only a person on the command line says so.
    """

    table: Tables = None
    descriptors: DescriptorSource | None = None
    trust_pickle: bool = False


NO_INPUTS = Inputs()


def from_source(config: RunConfig, console: Console, inputs: Inputs, progress: Callable[[int, int], None]) -> _Data:
    """Return the materials of a source with the labels in its columns."""
    data_dir = Path(config.data_dir)
    rejected: list[Rejected] = []
    if config.table is not None and config.structures is not None:
        table, rejected = open_own(Path(config.table), Path(config.structures), config.id_column)
    else:
        table = open_source(config.source, config.release, config.data_file, data_dir, console)
    dataset = CrystalPropertyDataset(
        table, data_dir / "stores", config.trained, config.graph, workers=config.workers, progress=progress
    )
    facts = {
        "source": {"name": table.name, "demo": table.demo, "digest": table.digest, **table.provenance},
        "store": dataset.store.path.name,
    }
    if config.table is not None:
        rejected += dataset.store.rejected
        console.print(f"{config.table}: {len(dataset)} rows with a structure, {len(rejected)} rejected", soft_wrap=True)
    materials = replace(dataset.materials, rejected=tuple(rejected))
    if config.composition is None:
        return materials, dataset.labels, None, facts
    source = CachedDescriptors(inputs.descriptors or descriptor_source(**config.descriptor))
    values, places = describe_valid(source, dataset.materials.formulas)
    materials, labels = _with_rows(materials, dataset.labels, np.isin(np.arange(len(dataset)), places))
    return materials, labels, values, facts | _descriptor_facts(config, source)


def from_tables(config: RunConfig, console: Console, inputs: Inputs) -> _Data:
    """Return the materials that the tables of the tasks name, joined with crystals where a network reads them."""
    tasks = config.trained
    keyed = load_labels(tasks, table=inputs.table, key_of=composition_key, trust_pickle=inputs.trust_pickle)
    crystals = open_crystals(config, console) if config.structure else None
    formula_of = group_key if crystals is None else crystals.formula
    listed = listed_keys(tasks, composition_key)
    if config.split == SAVED and config.splits_file:
        listed = {key: key for key in read_split(Path(config.splits_file)).part_of} | listed
    materials, labels = unite(keyed, listed, formula_of)
    digest = labels_digest({}, materials.ids)  # what the tables say of these materials is compared apart
    facts: dict[str, Any] = {"source": {"name": "task tables", "demo": False, "digest": digest}}
    if crystals is not None:
        materials = replace(materials, structures=crystals.structures(materials.ids))
    if config.composition is None:
        return *_with_crystals(materials, labels, console), None, facts
    source = inputs.descriptors or descriptor_source(**config.descriptor)
    cached = CachedDescriptors(source if crystals is None else NamedCrystals(source, crystals))
    values, places = describe_valid(cached, materials.ids)
    materials, labels = _with_rows(materials, labels, np.isin(np.arange(len(materials)), places))
    return materials, labels, values, facts | _descriptor_facts(config, cached)


def _with_crystals(
    materials: Materials, labels: dict[str, Labels], console: Console
) -> tuple[Materials, dict[str, Labels]]:
    """Return the materials that have a crystal, for a network that reads nothing else; at least one must."""
    if materials.structures is None:
        raise UsageError("the network reads crystals, and these materials have none: choose a composition encoder")
    valid = materials.structures.row >= 0
    if not valid.any():
        raise UsageError(
            "none of the materials in the tables is a crystal of the source: name ids or formulas of its crystals, or "
            "choose a composition encoder"
        )
    if not valid.all():
        console.print(f"{(~valid).sum()} of {len(valid)} materials have no crystal and are left out", style="yellow")
    return _with_rows(materials, labels, valid)


def _with_rows(
    materials: Materials, labels: Mapping[str, Labels], valid: np.ndarray
) -> tuple[Materials, dict[str, Labels]]:
    rows = np.flatnonzero(valid)
    if len(rows) == len(materials):
        return materials, dict(labels)
    return materials.keep(valid), {name: one.at(rows) for name, one in labels.items()}


def _descriptor_facts(config: RunConfig, source: DescriptorSource) -> dict[str, Any]:
    return {
        "descriptor": {**config.descriptor, "width": len(source.names), "digest": source.digest},
        "element_features": load_element_features().digest,
    }


def labels_digest(labels: Mapping[str, Labels], ids: Sequence[str]) -> str:
    """Return a SHA-256 over the ids, values and coordinates of all tasks."""
    digest = hashlib.sha256("\n".join(ids).encode())
    for name in sorted(labels):
        task = labels[name]
        digest.update(name.encode())
        for part in (task.values, task.offsets, task.known, task.t):
            if part is not None:
                digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


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
    """Descriptors from any source, which sees the formula of a crystal in place of its id; other keys as they are."""

    def __init__(self, source: DescriptorSource, crystals: KeyedCrystals) -> None:
        self._source, self._crystals = source, crystals
        self.names, self.digest = source.names, source.digest

    def describe(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See `DescriptorSource.describe`."""
        row_of, formulas = self._crystals.row_of, self._crystals.formulas
        return self._source.describe([formulas[row_of[key]] if key in row_of else key for key in keys])


def open_crystals(config: RunConfig, console: Console) -> KeyedCrystals:
    """Open the crystals of a run; their graphs are built if need be."""
    table = open_source(config.source, config.release, config.data_file, Path(config.data_dir), console)
    store = open_store(table, config.graph, Path(config.data_dir) / "stores", workers=config.workers)
    labels = table.labels.iloc[np.asarray(store.arrays.source_row)]
    formulas = tuple(map(str, labels["formula"]))
    row_of: dict[str, int] = {}
    for row, formula in enumerate(formulas):
        row_of.setdefault(group_key(formula), row)
    row_of.update(zip(map(str, labels.index), range(len(labels)), strict=True))
    return KeyedCrystals(store.arrays, row_of, formulas)


def build_store(
    source: Source, release: str, data_file: str | None, data_dir: Path, workers: int, console: Console, *,
    export: Path | None = None,
) -> GraphStore:  # fmt: skip
    """Open the store of a source, building it where it does not exist, and say what is in it."""
    table = open_source(source, release, data_file, data_dir, console)
    started = time.perf_counter()
    with Progress(
        TextColumn("building graphs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("graphs", total=len(table))
        store = open_store(
            table, GraphSettings(), data_dir / "stores", workers=workers,
            progress=lambda done, _: bar.update(task, completed=done),
        )  # fmt: skip
    _report(store, time.perf_counter() - started, "ready", console)
    if export is not None:
        with console.status(Text(f"writing {export}")):
            export_portable(store, export)
        console.print(f"portable form: {export}, {export.stat().st_size / 1e6:.1f} MB", soft_wrap=True)
    return store


def import_store(file: Path, data_dir: Path, console: Console) -> GraphStore:
    """Unpack a portable store and say what is in it."""
    started = time.perf_counter()
    with console.status(Text(f"unpacking {file}")):
        store = import_portable(file, data_dir / "stores")
    _report(store, time.perf_counter() - started, "unpacked", console)
    return store


def _report(store: GraphStore, seconds: float, verb: str, console: Console) -> None:
    size = sum(file.stat().st_size for file in store.path.iterdir()) / 1e6
    arrays = store.arrays
    console.print(
        f"store {store.path} {verb} in {seconds:.1f} s: {len(arrays)} crystals, {len(arrays.numbers)} atoms, "
        f"{len(arrays.neighbour)} edges, {len(arrays.cosine)} angles, {size:.0f} MB; {len(store.rejected)} rejected",
        soft_wrap=True,
    )
    for rejected in store.rejected[:10]:
        console.print(f"  rejected {rejected.id}: {rejected.code}: {rejected.reason}", soft_wrap=True)
