"""Atomic writes, file locks and digests: a reader never sees a half-written file."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from crystrata.errors import CrystrataError, InputError, StorageError, UsageError

_BLOCK = 1 << 20
_PATIENCE = 5.0  # [s]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 hex digest of a file, read in blocks."""
    return _digest_of(path, "sha256")


def md5_of(path: Path) -> str:
    """Return the MD5 hex digest of a file (only to compare with what a host publishes)."""
    return _digest_of(path, "md5")


def _digest_of(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def digest_of_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_json(path: Path, error: type[CrystrataError], advice: str) -> Any:
    """Return the content of a JSON file; raise `error`, ended by `advice`, where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        why = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        raise error(f"{path} is missing or damaged ({why}): {advice}") from None


def read_toml_table(path: Path, *names: str) -> dict[str, Any]:
    """Return the first table of a TOML file that has one of some names; other tables belong to other commands.

    An InputError if the file is missing or no TOML, a UsageError if it has no such table.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as TOML: {error}") from None
    table = next((content[name] for name in names if isinstance(content.get(name), dict)), None)
    if table is None:
        raise UsageError(f"{path} has no table [{names[0]}]")
    return dict(table)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the system's write errors into one line that names the path and the way out."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot write {path}: {reason}. Free some space or choose another folder; earlier files are untouched."
        ) from error


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], *, before: Callable[[], object] | None = None
) -> None:
    """Write a file so that it is either the old or the new one, whole, at every moment; its folders are made.

    What a killed writer of the same file left behind is removed (not on Windows, where it looks like the file of a
    living one). `write` fills the binary file; `before` is called when it is whole on the disk, before it takes the
    place of the old one, which stays where a StorageError says that the disk is full or the folder cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        handle, temporary, mark = _unfinished(path)
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            if before is not None:
                before()
            replace(Path(temporary), path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        finally:
            if mark is not None:
                os.close(mark)


def _unfinished(path: Path) -> tuple[int, str, int | None]:
    """Make a file for what is being written; return its handle, its name and a second handle that marks it as alive.

    The mark is a lock that the system frees when the process dies; it must last until the file has its final name.
    """
    while True:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        if os.name == "nt":  # a file that is open cannot be renamed there
            return handle, temporary, None
        try:
            _take(handle, wait=True)
        except OSError:  # a file system without locks: what a killed writer leaves then stays
            return handle, temporary, None
        if os.path.exists(temporary):
            return handle, temporary, os.dup(handle)
        os.close(handle)  # another writer swept it away before it was marked


def _sweep(path: Path) -> None:
    """Remove unfinished files of `path` whose writers are dead."""
    if os.name == "nt":
        return
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError), open(left, "r+b") as file:
            if _take(file.fileno(), wait=False):
                left.unlink()


def replace(source: Path, target: Path, *, windows: bool = os.name == "nt") -> None:
    """Rename a file over another one.

    Windows refuses while any process has one of them open; a reader or a virus scanner is waited for some seconds.
    """
    patient_until = time.monotonic() + (_PATIENCE if windows else 0)
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if time.monotonic() >= patient_until:
                raise
            time.sleep(0.05)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write bytes, atomically."""
    write_atomically(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, atomically; NaN becomes null so that any JSON reader accepts the file."""
    write_text(path, json.dumps(_without_nan(value), indent=2) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value


@contextmanager
def lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on `path`, made if needed, and yield whether it is held; it ends with the process.

    The file stays, because removing it would let two processes hold it. Without `wait` a lock that another process
    holds is not waited for. A StorageError if the file cannot be made.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b")
    with file:
        with storage_errors(path):
            held = _take(file.fileno(), wait=wait)
        yield held


def _take(handle: int, *, wait: bool) -> bool:
    """Lock an open file until its last handle is closed; return whether that succeeded."""
    if os.name == "nt":
        import msvcrt

        while True:
            try:
                os.lseek(handle, 0, os.SEEK_SET)
                msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
                return True
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EDEADLK):
                    raise
                if not wait:  # LK_LOCK gives up after ten seconds: a build takes longer
                    return False
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
