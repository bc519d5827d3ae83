"""Large files in parts that any carrier takes: an index under the file's name, the content in numbered files beside it.

The index is a list in the form of `sha256sum`, so that `sha256sum -c best.pt` says which part is missing or damaged;
the parts one after the other are the file. Their names hold a digest of the content, so that no older index uses them,
and the index takes its name when they are on the disk. One process at a time writes in a folder: a run has its lock.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from crystrata.errors import ModelError
from crystrata.files import write_atomically, write_bytes

PART_BYTES = 15_000_000
"""Largest part; some carriers take files of at most 16 MiB."""

_HEADER = b"# SHA-256 of the parts that follow each other in this file\n"
_PART = re.compile(r"[^/\\]+\.[0-9a-f]{16}\.[0-9]+")


def write_in_parts(path: Path, content: memoryview, *, before: Callable[[], object] | None = None) -> None:
    """Write a file, in parts where it is larger than `PART_BYTES`; the old or the new one, whole, at every moment.

    Args:
        path: Destination.
        content: Its bytes.
        before: Called when everything is on the disk, before the new file takes the place of the old one.

    Raises:
        StorageError: The disk is full or the folder cannot be written; the previous file stays.
    """
    try:
        if len(content) > PART_BYTES:
            content = memoryview(_write_parts(path, content))
        write_atomically(path, lambda file: file.write(content), before=before)
    finally:
        remove_unnamed_parts(path.parent)


def _write_parts(path: Path, content: memoryview) -> bytes:
    """Write the parts; return the index."""
    parts = [content[start : start + PART_BYTES] for start in range(0, len(content), PART_BYTES)]
    digests = [hashlib.sha256(part).hexdigest() for part in parts]
    key = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
    names = [f"{path.name}.{key}.{number}" for number in range(1, len(parts) + 1)]
    for name, part in zip(names, parts, strict=True):
        write_bytes(path.with_name(name), bytes(part))
    return _HEADER + "".join(f"{digest}  {name}\n" for digest, name in zip(digests, names, strict=True)).encode()


def read_in_parts(path: Path) -> bytes:
    """Return the content of a file, whether it is in parts or not.

    Raises:
        ModelError: A part is missing or damaged.
        OSError: The file cannot be read.
    """
    while True:
        content = path.read_bytes()
        if not content.startswith(_HEADER):
            return content
        try:
            return b"".join(_part(path, *line) for line in _lines(content))
        except ModelError:
            if path.read_bytes() == content:  # else a newer file has taken its place meanwhile
                raise


def _lines(index: bytes) -> list[tuple[str, str]]:
    """Return (SHA-256, name) of each part; what a damaged index says of them fits no part."""
    lines = [line.partition("  ") for line in index[len(_HEADER) :].decode("ascii", "replace").split("\n")[:-1]]
    return [(digest, name) for digest, _, name in lines]


def _part(path: Path, digest: str, name: str) -> bytes:
    if not _PART.fullmatch(name):
        raise ModelError(f"{path} is damaged: its list of parts cannot be read")
    try:
        content = path.with_name(name).read_bytes()
    except OSError as error:
        raise ModelError(f"{path} is damaged: cannot read its part {name}: {error.strerror or error}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise ModelError(f"{path} is damaged: its part {name} does not fit its SHA-256")
    return content


def remove_unnamed_parts(folder: Path) -> None:
    """Remove the parts in a folder that no index there names: those of a file that was replaced, or never finished."""
    with suppress(OSError):  # an index that cannot be read now: the parts stay until the next time
        files = [file for file in folder.iterdir() if file.is_file()]
        parts = {file.name for file in files if _PART.fullmatch(file.name)}
        if parts:
            named = {part for file in files for part in _parts_named_by(file)}
            for part in parts - named:
                (folder / part).unlink()


def _parts_named_by(file: Path) -> list[str]:
    with open(file, "rb") as opened:
        if opened.read(len(_HEADER)) != _HEADER:
            return []
        return [name for _, name in _lines(_HEADER + opened.read())]
