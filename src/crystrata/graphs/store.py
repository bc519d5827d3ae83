"""The graph store: one content-addressed folder of flat memory-mapped arrays and a JSON header.

A store depends on the crystals and the graph settings alone, never on labels, properties or splits. It appears whole or
not at all: it is built in a folder of its own under a lock and renamed into place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from crystrata.crystals.crystal import Crystal, Rejected
from crystrata.crystals.table import CrystalTable
from crystrata.errors import DataError
from crystrata.files import digest_of_json, lock, sha256_of, storage_errors, write_json
from crystrata.graphs.arrays import ARRAY_FORMS, GraphArrays
from crystrata.graphs.build import build_graphs
from crystrata.neighbourhood import GraphSettings

SCHEMA_VERSION = 1
HEADER = "store.json"
_CHUNK = 256  # crystals a worker builds at once
Progress = Callable[[int, int], None]


class GraphStore:
    """An open store.

    Attributes:
        path: Folder of the store.
        arrays: Memory-mapped graphs; `arrays.source_row` gives the row of the source table of each graph.
        header: What the store was built from, its counts and digests.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = _read_header(path)
        self.arrays = GraphArrays(**{name: self._map(name) for name in ARRAY_FORMS})

    def _map(self, name: str) -> np.ndarray:
        form, entry = ARRAY_FORMS[name], self.header["arrays"][name]
        file = self.path / f"{name}.bin"
        shape = (entry["rows"], *form.row)
        expected = int(np.prod(shape, dtype=np.int64)) * np.dtype(form.dtype).itemsize
        if not file.is_file() or file.stat().st_size != expected:
            raise DataError(
                f"store {self.path} is damaged: {file.name} is missing or cut. Delete the folder to rebuild."
            )
        if expected == 0:
            return np.zeros(shape, dtype=form.dtype)
        return np.memmap(file, dtype=form.dtype, mode="r", shape=shape)

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
        """Compare the SHA-256 of every array with the header.

        Raises:
            DataError: A byte differs.
        """
        for name, entry in self.header["arrays"].items():
            if sha256_of(self.path / f"{name}.bin") != entry["sha256"]:
                raise DataError(f"store {self.path} is damaged: {name}.bin has changed. Delete the folder to rebuild.")


def store_path(stores: Path, source_digest: str, settings: GraphSettings) -> Path:
    """Return the folder of a store: its name is the digest of everything that its content depends on."""
    key = {"source": source_digest, "settings": settings.as_dict(), "schema": SCHEMA_VERSION}
    return stores / digest_of_json(key)[:20]


def open_store(
    table: CrystalTable, settings: GraphSettings, stores: Path, *, workers: int = 0, progress: Progress | None = None
) -> GraphStore:
    """Open the store of a table, building it first where it does not exist.

    Args:
        table: Crystals of the store.
        settings: What a neighbourhood is.
        stores: Folder that holds all stores.
        workers: Processes that build graphs; 0 builds in this one.
        progress: Called with (crystals done, crystals in all) while building.

    Raises:
        DataError: The store on disk is damaged.
        StorageError: The store cannot be written.
    """
    path = store_path(stores, table.digest, settings)
    if not (path / HEADER).is_file():
        with lock(stores / f".{path.name}.lock"):
            if not (path / HEADER).is_file():
                _build(path, table, settings, workers, progress)
    return GraphStore(path)


def publish(path: Path, write: Callable[[Path], None]) -> None:
    """Make a store folder whole or not at all: `write` fills a temporary folder, which is then renamed to `path`."""
    building = path.with_name(f".{path.name}.building")
    shutil.rmtree(building, ignore_errors=True)  # left over from a killed build; the caller holds the lock
    with storage_errors(path):
        building.mkdir(parents=True)
        try:
            write(building)
            shutil.rmtree(path, ignore_errors=True)
            os.replace(building, path)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise


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
    chunks = _chunks(enumerate(table.crystals()))
    done = 0
    if workers == 0:
        for part in chunks:
            done += len(part)
            yield done, build_graphs(part, settings)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = []
        for part in chunks:
            waiting.append((len(part), pool.submit(build_graphs, part, settings)))
            if len(waiting) > 2 * workers:
                size, future = waiting.pop(0)
                done += size
                yield done, future.result()
        for size, future in waiting:
            done += size
            yield done, future.result()


def _chunks(items: Iterator[tuple[int, Crystal]]) -> Iterator[list[tuple[int, Crystal]]]:
    while part := list(islice(items, _CHUNK)):
        yield part


class ArrayWriter:
    """Appends graphs to the flat files of a store and finishes it with the header; closes its files on any exit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._exit = ExitStack()
        self._files = {name: self._exit.enter_context(open(folder / f"{name}.bin", "wb")) for name in ARRAY_FORMS}
        self._digests = {name: hashlib.sha256() for name in ARRAY_FORMS}
        self._rows = dict.fromkeys(ARRAY_FORMS, 0)

    def append(self, graphs: GraphArrays) -> None:
        """Add the graphs of further crystals."""
        for name, file in self._files.items():
            array = np.ascontiguousarray(getattr(graphs, name))
            file.write(array.data)
            self._digests[name].update(array.data)
            self._rows[name] += len(array)

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()

    def finish(self, *, source: dict[str, Any], settings: GraphSettings, rejected: list[dict[str, Any]]) -> dict:
        """Flush the arrays to disk and write the header, which makes the folder a store; return its array entries."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        arrays = {
            name: {"dtype": form.dtype, "rows": self._rows[name], "sha256": self._digests[name].hexdigest()}
            for name, form in ARRAY_FORMS.items()
        }
        header = {"schema": SCHEMA_VERSION, "source": source, "settings": settings.as_dict()}
        write_json(self._folder / HEADER, {**header, "crystals": self._rows["atom_counts"], "arrays": arrays,
                                           "rejected": rejected})  # fmt: skip
        return arrays


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header = json.loads((path / HEADER).read_text())
    except FileNotFoundError:
        raise DataError(f"{path} is no graph store: {HEADER} is missing") from None
    except ValueError as error:
        raise DataError(f"store {path} is damaged: {HEADER}: {error}. Delete the folder to rebuild.") from None
    return checked_header(header, f"store {path}")


def checked_header(header: Any, where: str) -> dict[str, Any]:
    """Return a store's header if it is one of this version.

    Raises:
        DataError: It is of another form or version.
    """
    if not isinstance(header, dict) or not isinstance(header.get("arrays"), dict):
        raise DataError(f"{where} is damaged: its header is no header of a store. Delete it to rebuild.")
    if header.get("schema") != SCHEMA_VERSION or set(header["arrays"]) != set(ARRAY_FORMS):
        raise DataError(f"{where} has schema {header.get('schema')}, this version reads {SCHEMA_VERSION}; rebuild it")
    try:
        GraphSettings(**header["settings"])
        str(header["source"]["digest"])
        _ = header["rejected"], [int(entry["rows"]) for entry in header["arrays"].values()]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} is damaged: header entry {error}. Delete it to rebuild.") from None
    return header
