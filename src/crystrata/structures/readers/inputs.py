"""Files, folders and zip archives: from what a person names to one item per structure, in order."""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

from crystrata.parallel import map_ordered
from crystrata.structures.crystal import Crystal, CrystalError, Rejected
from crystrata.structures.readers.formats import ARCHIVE_SUFFIX, format_of, is_other_file, read_source, unknown_format
from crystrata.structures.readers.structure_file import StructureFile, rejected

MAX_ARCHIVE_BYTES = 1_000_000_000  # sum of what the members say they unpack to
MAX_ARCHIVE_RATIO = 200  # unpacked to packed; text of structures reaches about 20
MAX_ARCHIVE_MEMBERS = 100_000
_RATIO_FROM = 1_000_000  # [bytes] small archives may be as dense as they like
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # control codes, halves of a character


_FILES_A_TASK = 32  # that a worker process reads in one go


def read_crystals(
    paths: Iterable[Path | str] | Path | str, *, majority_species: bool = False, workers: int = 0
) -> Iterator[Crystal | Rejected]:
    """Yield a crystal or a rejection per structure, in the order of the inputs; a bad input never ends the sequence.

    A folder gives its files (recursive, sorted by name; other kinds of files are ignored), a zip its members. The id is
    the file name without its ending; where a file holds several structures, their stated ids, or `name#k`. A DataError
    if a worker process was killed.

    Args:
        paths: Files, folders and zip archives; or a single one.
        majority_species: Read a disordered site as its majority species, which the crystal's note says; else refuse it.
        workers: Processes that read; 0 reads in this one.
    """
    named = [paths] if isinstance(paths, str | Path) else paths
    if workers == 0:
        yield from _read_named(named, majority_species)
        return
    files = (file for path in named for file in (list(_files_under(Path(path))) or [Path(path)]))
    parts = iter(lambda: list(islice(files, _FILES_A_TASK)), [])
    for found in map_ordered(partial(_read_all, majority_species=majority_species), parts, workers):
        yield from found


def _read_all(paths: list[Path], majority_species: bool) -> list[Crystal | Rejected]:
    return list(_read_named(paths, majority_species))


def _read_named(paths: Iterable[Path | str], majority_species: bool) -> Iterator[Crystal | Rejected]:
    for path in paths:
        for item in _read_path(Path(path), majority_species):
            if isinstance(item, Rejected):
                yield Rejected(writable(item.id), item.code, writable(item.reason))
            else:
                yield item if item.id == writable(item.id) else replace(item, id=writable(item.id))


def writable(text: str) -> str:
    """Return a name or a message as any file and terminal takes it: what cannot be written is spelled (`\\xff`).

    A file name is bytes; those that are not UTF-8, or all beyond ASCII where the locale is C, reach Python as halves of
    surrogate pairs, which neither a table nor a terminal can write.
    """
    with suppress(UnicodeEncodeError):  # raised where the text comes from inside a file, not from the names on disk
        text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return _UNWRITABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def find_structure_files(folder: Path | str) -> list[Path]:
    """Return the structure files and zip archives under a folder, sorted by name."""
    return [path for path in _files_under(Path(folder)) if _is_archive(path.name) or format_of(path.name)]


def _files_under(folder: Path) -> Iterator[Path]:
    """Yield the files that may hold a structure; links to folders are not followed, so that no circle can arise."""
    for parent, folders, files in os.walk(folder):
        # by their bytes: the same order in every locale
        folders[:] = sorted((name for name in folders if not is_other_file(name)), key=os.fsencode)
        yield from (Path(parent, name) for name in sorted(files, key=os.fsencode) if not is_other_file(name))


def _read_path(path: Path, majority_species: bool) -> Iterator[Crystal | Rejected]:
    known = format_of(path.name)
    id = known[1] if known else path.name or str(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # missing, a broken link, no permission, a name no system allows
        yield Rejected(id, "not_found", f"{path} does not exist or cannot be reached; check the path")
        return
    if stat.S_ISDIR(mode):
        found = False
        for file in _files_under(path):
            found = True
            yield from _read_path(file, majority_species)
        if not found:
            yield Rejected(id, "no_structure", f"the folder {path} holds no structure file")
    elif not stat.S_ISREG(mode):
        yield Rejected(id, "unreadable", f"{path} is no ordinary file")
    elif _is_archive(path.name):
        yield from _read_archive(path, majority_species)
    elif known is None:
        yield unknown_format(path.name)
    else:
        form, stem = known
        if path.stat().st_size > form.max_bytes:
            yield Rejected(stem, "too_large", f"it is larger than {form.max_bytes / 1e6:g} MB; give a smaller file")
        else:
            size = form.max_bytes
            yield from read_source(
                form, StructureFile(path.name, stem, lambda: path.open("rb"), size, path, majority_species)
            )


def _is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIX)


def _read_archive(path: Path, majority_species: bool) -> Iterator[Crystal | Rejected]:
    """Yield the structures of a zip, members sorted by name; nothing is unpacked to disk."""
    id = path.name[: -len(ARCHIVE_SUFFIX)]
    try:
        with zipfile.ZipFile(path) as archive:
            members = _safe_members(archive)
            for member in members:
                yield from _read_member(archive, member, majority_species)
            if not members:
                raise CrystalError("no_structure", "the archive holds no structure file")
    except Exception as error:  # a foreign archive may be broken in any way; `rejected` names it
        yield rejected(id, error)


def _safe_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the members worth reading, sorted by name; `unsafe_archive` if they unpack to far too much."""
    every = archive.infolist()
    unpacked, packed = (sum(sizes) for sizes in ([m.file_size for m in every], [m.compress_size for m in every]))
    if len(every) > MAX_ARCHIVE_MEMBERS or unpacked > MAX_ARCHIVE_BYTES:
        raise CrystalError(
            "unsafe_archive", f"{len(every)} members of {unpacked / 1e6:.0f} MB together; split the archive"
        )
    if unpacked > _RATIO_FROM and unpacked > MAX_ARCHIVE_RATIO * packed:
        raise CrystalError("unsafe_archive", f"it would grow more than {MAX_ARCHIVE_RATIO}-fold; unpack it first")
    return sorted(
        (m for m in every if not m.is_dir() and not any(map(is_other_file, _parts(m.filename)))),
        key=lambda member: member.filename,
    )


def _parts(filename: str) -> list[str]:
    """Return the parts of a member's name that could be hidden or of another kind; `..` is not ignored."""
    return [part for part in PurePosixPath(filename.replace("\\", "/")).parts if part not in ("/", "..", ".")]


def _read_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, majority_species: bool
) -> Iterator[Crystal | Rejected]:
    pure = PurePosixPath(member.filename.replace("\\", "/"))
    known = format_of(pure.name)
    id = known[1] if known else pure.name or member.filename
    if pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        yield Rejected(id, "unsafe_archive", f"its name {member.filename!r} leads out of the archive; pack it again")
    elif stat.S_ISLNK(member.external_attr >> 16):
        yield Rejected(id, "unsafe_archive", "it is a link; pack the file itself")
    elif member.flag_bits & 0x1:
        yield Rejected(id, "unreadable", "it is encrypted; unpack it with its password first")
    elif known is None:
        yield unknown_format(pure.name)
    else:
        form, stem = known
        limit = min(form.max_bytes, MAX_ARCHIVE_BYTES)
        opened = partial(archive.open, member)
        yield from read_source(form, StructureFile(pure.name, stem, opened, limit, None, majority_species))
