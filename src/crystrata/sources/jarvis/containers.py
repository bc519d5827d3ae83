"""What kind of file it is, by content, and its text in bounded pieces: plain, gzip or zip."""

from __future__ import annotations

import codecs
import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

from crystrata.errors import DataError

Form = Literal["parquet", "gzip", "zip", "json"]

_BLOCK = 1 << 22
MAX_TEXT_BYTES = 16 << 30  # the largest release is 0.25 GB of text
MAX_RATIO = 100  # JARVIS text shrinks five-fold; only a bomb shrinks a hundred-fold
RATIO_FROM_BYTES = 64 << 20  # below this size a bomb does no harm


def damaged(path: Path, what: str) -> DataError:
    """Build the error for a file that cannot be read: which one, what is wrong, how to fix it."""
    return DataError(f"{path}: {what}. Download or copy the file again, or check the path given with --data-file.")


def form_of(path: Path) -> Form:
    """Return the form of a file from its first bytes; a DataError if it is missing, empty or of no known form."""
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise damaged(path, f"cannot be read ({error.strerror or error})") from None
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"\x1f\x8b"):
        return "gzip"
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith((b"[", b"{")):
        return "json"
    what = "is empty" if not start else "is a web page" if text.startswith(b"<") else "has an unknown form"
    raise damaged(path, f"{what}; expected are JARVIS records (.json, .json.gz, .json.zip) or the compact parquet form")


def text_pieces(path: Path) -> Iterator[str]:
    """Yield the JSON text of a record file piece by piece, so that memory stays bounded.

    A DataError if the file is cut, damaged, no UTF-8 text, or unpacks to far more than any data set holds.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    packed, unpacked = path.stat().st_size, 0
    try:
        with _open_text(path) as file:
            while block := file.read(_BLOCK):
                unpacked += len(block)
                if unpacked > MAX_TEXT_BYTES or unpacked > max(RATIO_FROM_BYTES, MAX_RATIO * packed):
                    raise damaged(path, f"unpacks to more than {unpacked >> 20} MiB, which no JARVIS release does")
                yield decoder.decode(block)
            yield decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise damaged(path, "holds no UTF-8 text") from None
    except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise damaged(path, f"is cut or damaged ({error})") from None
    except (NotImplementedError, RuntimeError) as error:  # unknown compression; encrypted member
        raise damaged(path, f"cannot be unpacked ({error})") from None
    except OSError as error:
        raise damaged(path, f"cannot be read ({error})") from None


@contextmanager
def _open_text(path: Path) -> Iterator[BinaryIO]:
    form = form_of(path)
    if form == "gzip":
        with gzip.open(path) as unpacked:
            yield cast(BinaryIO, unpacked)
    elif form == "zip":
        with zipfile.ZipFile(path) as archive, archive.open(json_member(path, archive)) as member:
            yield cast(BinaryIO, member)
    else:
        with open(path, "rb") as file:
            yield file


def json_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the one JSON member of a zip archive; a DataError if there is not exactly one."""
    members = [
        info
        for info in archive.infolist()
        if info.filename.lower().endswith(".json") and not info.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        named = ", ".join(info.filename for info in members[:3]) or "none"
        raise damaged(path, f"must hold exactly one .json file, but holds {len(members)} ({named})")
    return members[0]
