"""Store folders on disk: they appear whole or not at all, and it is noted when their content was last checked.

Opening a store compares the header with its own digest and the sizes of all arrays; that takes milliseconds. The
SHA-256 of every array (0.7 s for the complete JARVIS set) is compared where it could find something new: on the first
opening after a build, after any file was touched (size, times or inode differ from those noted at the last check), and
once a day against silent decay of the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from crystrata.errors import StorageError
from crystrata.files import lock, storage_errors, write_json
from crystrata.graphs.arrays import ARRAY_FORMS
from crystrata.graphs.header import HEADER, damaged

CHECKED_FOR = 86400.0  # seconds
_SETTLED = 0.1  # a change within a tick of the file system's clock after the last one would not be seen


def publish(path: Path, write: Callable[[Path], None]) -> None:
    """Make a store folder whole or not at all; the caller holds its lock.

    Args:
        path: Folder of the store; one that is there is replaced.
        write: Fills a temporary folder, which is then renamed to `path`.
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
