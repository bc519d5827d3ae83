"""Files of a store: its header, its flat arrays, and how its folder appears whole or not at all.

Opening a store compares the header with its own digest and the sizes of all arrays; that takes milliseconds. The
SHA-256 of every array (0.7 s for the complete JARVIS set) is compared where it could find something new: on the first
opening after a build, after any file was touched (size, times or inode differ from those noted at the last check), and
once a day against silent decay of the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from crystrata.errors import DataError, StorageError, UsageError
from crystrata.files import digest_of_json, lock, storage_errors, write_json
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import ARRAY_FORMS, GraphArrays

SCHEMA_VERSION = 3
HEADER = "store.json"
_SEAL = "sha256"


def damaged(path: Path, what: str) -> DataError:
    """Build the error for a store on disk that is not what was written."""
    return DataError(f"store {path} is damaged: {what}. It must be built again.")


def sealed(header: dict[str, Any]) -> dict[str, Any]:
    """Return a header with its own SHA-256."""
    return {**header, _SEAL: digest_of_json(header)}


def read_header(path: Path) -> dict[str, Any]:
    """Read the header of the store in a folder; a DataError if it is missing, damaged, or of another version."""
    try:
        header = json.loads((path / HEADER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is no graph store: {HEADER} is missing. It must be built again.") from None
    except OSError as error:
        raise damaged(path, f"{HEADER} cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise damaged(path, f"{HEADER}: {error}") from None
    return checked_header(header, f"store {path}")


def checked_header(header: Any, where: str) -> dict[str, Any]:
    """Return a store's header if it is of this version and unchanged; the DataError names `where` it was read."""
    if not isinstance(header, dict) or not isinstance(header.get("arrays"), dict):
        raise DataError(f"{where} is damaged: its header is no header of a store. It must be built again.")
    if header.get("schema") != SCHEMA_VERSION or set(header["arrays"]) != set(ARRAY_FORMS):
        raise DataError(
            f"{where} has schema {header.get('schema')}, this version reads {SCHEMA_VERSION}. It must be built again."
        )
    if header.get(_SEAL) != digest_of_json({name: value for name, value in header.items() if name != _SEAL}):
        raise DataError(f"{where} is damaged: its header has changed. It must be built again.")
    try:
        GraphSettings(**header["settings"])
        str(header["source"]["digest"])
        _ = header["rejected"], [int(entry["rows"]) for entry in header["arrays"].values()]
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise DataError(f"{where} is damaged: header entry {error}. It must be built again.") from None
    return header


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
        header = {"schema": SCHEMA_VERSION, "source": source, "settings": settings.as_dict(),
                  "crystals": self._rows["atom_counts"], "arrays": arrays, "rejected": rejected}  # fmt: skip
        write_json(self._folder / HEADER, sealed(header))
        return arrays


CHECKED_FOR = 86400.0  # seconds
_SETTLED = 0.1  # a change within a tick of the file system's clock after the last one would not be seen


def publish(path: Path, write: Callable[[Path], None]) -> None:
    """Make a store folder whole or not at all; the caller holds its lock.

    `write` fills a temporary folder, which then takes the place of what is at `path`.
    """
    building, old = _beside(path, "building"), _beside(path, "old")
    for left in (building, old):  # of a killed build
        shutil.rmtree(left, ignore_errors=True)
    with storage_errors(path):
        building.mkdir(parents=True)
        try:
            write(building)
            if path.exists():
                os.replace(path, old)
            os.replace(building, path)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
    forget_check(path)
    shutil.rmtree(old, ignore_errors=True)


def sweep(stores: Path) -> None:
    """Remove what killed builds left in a folder of stores; what a living one holds stays."""
    for left in [*stores.glob(".*.building"), *stores.glob(".*.old")]:
        store = stores / left.name[1:].rpartition(".")[0]
        with suppress(StorageError), lock(lock_of(store), wait=False) as held:
            if held:
                shutil.rmtree(left, ignore_errors=True)


def lock_of(path: Path) -> Path:
    """Return the lock file of a store; it stays when the store goes."""
    return _beside(path, "lock")


def forget_check(path: Path) -> None:
    """Have every array of a store compared with its SHA-256 on the next opening."""
    with suppress(OSError):  # in a folder that cannot be written there is no note, or its stamps decide
        _beside(path, "checked").unlink(missing_ok=True)


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{what}")


def stamps_of(path: Path) -> dict[str, list[int]]:
    """Return what changes when a file is written: size, time of change, time of change of its entry, inode."""
    try:
        states = {name: (path / name).stat() for name in (HEADER, *(f"{name}.bin" for name in ARRAY_FORMS))}
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from None
    return {name: [one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino] for name, one in states.items()}


def checked_lately(path: Path, stamps: dict[str, list[int]]) -> bool:
    """Return whether the arrays were compared with their SHA-256 within a day, and no file was touched since."""
    try:
        note = json.loads(_beside(path, "checked").read_text(encoding="utf-8"))
        return note["files"] == stamps and 0 <= time.time() - note["at"] < CHECKED_FOR
    except (OSError, ValueError, KeyError, TypeError):  # no note, or no sound one: the arrays are read
        return False


def note_checked(path: Path, stamps: dict[str, list[int]]) -> None:
    """Remember that the arrays were found sound when the files had these stamps."""
    now = time.time()
    if now - max(changed for _, *times, _ in stamps.values() for changed in times) / 1e9 > _SETTLED:
        with suppress(StorageError):  # a folder that cannot be written is checked on every opening
            write_json(_beside(path, "checked"), {"files": stamps, "at": now})
