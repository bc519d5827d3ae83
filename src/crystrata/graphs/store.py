"""The graph store: one content-addressed folder of flat memory-mapped arrays and a JSON header.

A store depends on the crystals and the graph settings alone, never on labels, properties or splits. It appears whole or
not at all: it is built in a folder of its own under a lock and renamed into place.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from crystrata.errors import DataError
from crystrata.files import digest_of_json, lock, sha256_of
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import ARRAY_FORMS, GraphArrays
from crystrata.graphs.neighbours import build_graphs
from crystrata.graphs.store_files import (
    SCHEMA_VERSION,
    ArrayWriter,
    checked_lately,
    damaged,
    forget_check,
    lock_of,
    note_checked,
    publish,
    read_header,
    stamps_of,
    sweep,
)
from crystrata.parallel import map_ordered
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal, Rejected

_CHUNK = 256  # crystals a worker builds at once
Progress = Callable[[int, int], None]


class GraphStore:
    """An open store: folder, header, and memory-mapped graphs, whose `source_row` is that of the source table."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = read_header(path)
        self.arrays = GraphArrays(**{name: self._map(name) for name in ARRAY_FORMS})

    def _map(self, name: str) -> np.ndarray:
        form, entry = ARRAY_FORMS[name], self.header["arrays"][name]
        file = self.path / f"{name}.bin"
        shape = (entry["rows"], *form.row)
        expected = int(np.prod(shape, dtype=np.int64)) * np.dtype(form.dtype).itemsize
        if not file.is_file() or file.stat().st_size != expected:
            raise damaged(self.path, f"{file.name} is missing or cut")
        if expected == 0:
            return np.zeros(shape, dtype=form.dtype)
        try:
            return np.asarray(np.memmap(file, dtype=form.dtype, mode="r", shape=shape))
        except OSError as error:
            raise damaged(self.path, f"{file.name}: {error.strerror or error}") from None

    def __reduce__(self) -> tuple[type[GraphStore], tuple[Path]]:
        """Travel to another process as a path; the arrays are mapped again there."""
        return GraphStore, (self.path,)

    @property
    def settings(self) -> GraphSettings:
        """Graph settings the store was built with."""
        return GraphSettings(**self.header["settings"])

    @property
    def rejected(self) -> list[Rejected]:
        """Crystals that have no graph, with their reasons."""
        return [Rejected(entry["id"], entry["code"], entry["reason"]) for entry in self.header["rejected"]]

    def verify(self) -> None:
        """Compare the SHA-256 of every array with the header; a DataError if a byte differs."""
        for name, entry in self.header["arrays"].items():
            try:
                found = sha256_of(self.path / f"{name}.bin")
            except OSError:  # gone, or on a bad spot of the disk
                found = ""
            if found != entry["sha256"]:
                forget_check(self.path)
                raise damaged(self.path, f"{name}.bin has changed or cannot be read")


def store_path(stores: Path, source_digest: str, settings: GraphSettings) -> Path:
    """Return the folder of a store: its name is the digest of everything that its content depends on."""
    key = {"source": source_digest, "settings": settings.as_dict(), "schema": SCHEMA_VERSION}
    return stores / digest_of_json(key)[:20]


def open_store(
    table: CrystalTable, settings: GraphSettings, stores: Path, *, workers: int = 0, progress: Progress | None = None
) -> GraphStore:
    """Open the store of a table, building it first where it does not exist or is damaged (with a warning).

    `stores` holds all stores; `workers` processes build graphs, 0 builds in this one; `progress` is called with
    (crystals done, crystals in all) while building.
    """
    path = store_path(stores, table.digest, settings)
    return cached_store(path, lambda: _build(path, table, settings, workers, progress))


def cached_store(path: Path, make: Callable[[], None]) -> GraphStore:
    """Return the store of a folder: made where it is missing, made again with a warning where it is damaged.

    `make` publishes the store at that path, as `store_path` names it; it is called under the lock of the store.
    """
    sweep(path.parent)
    with suppress(DataError):  # looked at again under the lock: another process may be putting it in place
        return _sound(path)
    with lock(lock_of(path)):
        if path.exists():
            try:
                return _sound(path)
            except DataError as damage:
                warnings.warn(f"{damage} This is done now.", stacklevel=3)
        make()
        return GraphStore(path)


def _sound(path: Path) -> GraphStore:
    """Open a store that is the one its name promises; see `publish` for when its arrays are read."""
    store, stamps = GraphStore(path), stamps_of(path)
    place = store_path(path.parent, store.header["source"]["digest"], store.settings)
    if place != path:
        raise damaged(path, f"it holds the content of {place.name}")
    if not checked_lately(path, stamps):
        store.verify()
        note_checked(path, stamps)
    return store


def _build(path: Path, table: CrystalTable, settings: GraphSettings, workers: int, progress: Progress | None) -> None:
    def write(folder: Path) -> None:
        rejected: list[tuple[int, Rejected]] = []
        with ArrayWriter(folder) as writer:
            for done, (graphs, bad) in _built_chunks(table, settings, workers):
                writer.append(graphs)
                rejected += bad
                if progress:
                    progress(done, len(table))
            writer.finish(
                source={"name": table.name, "digest": table.digest, "rows": len(table), "demo": table.demo},
                settings=settings,
                rejected=[{"row": row, "id": bad.id, "code": bad.code, "reason": bad.reason} for row, bad in rejected],
            )

    publish(path, write)


def _built_chunks(
    table: CrystalTable, settings: GraphSettings, workers: int
) -> Iterator[tuple[int, tuple[GraphArrays, list[tuple[int, Rejected]]]]]:
    """Yield (crystals done, graphs of a chunk) in source order; at most a few chunks are in memory."""
    build_graphs([], settings)  # compiles what is not cached yet: once, not in every worker
    built = map_ordered(partial(build_graphs, settings=settings), _chunks(enumerate(table.crystals())), workers)
    for number, chunk in enumerate(built, start=1):
        yield min(number * _CHUNK, len(table)), chunk


def _chunks(items: Iterator[tuple[int, Crystal]]) -> Iterator[list[tuple[int, Crystal]]]:
    while part := list(islice(items, _CHUNK)):
        yield part
