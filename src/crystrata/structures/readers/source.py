"""One structure file, wherever its bytes lie: on disk, gzip-compressed, or as a member of a zip archive."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from crystrata.structures.crystal import CrystalError

ADVICE = "open it in VESTA or another viewer to see whether it is whole, or export it again"


@dataclass(frozen=True)
class StructureFile:
    """A structure file to be read.

    Attributes:
        name: File name without folder, as given (`Si.cif.gz`).
        stem: Name without the extensions that say the format: the id of its only structure.
        open: Opens the raw bytes.
        max_bytes: Largest size that is read, before and after decompression [bytes].
        path: Place on disk; None for a member of an archive.
        majority_species: Whether a disordered site is read as its majority species; else it is refused.
    """

    name: str
    stem: str
    open: Callable[[], IO[bytes]]
    max_bytes: int
    path: Path | None = None
    majority_species: bool = False

    @property
    def compressed(self) -> bool:
        """Whether the file is gzip-compressed, by its name."""
        return self.name.lower().endswith(".gz")

    def content(self) -> bytes:
        """Return the bytes, decompressed; a CrystalError `too_large`, or `unreadable` for damaged compression."""
        # One byte more than allowed is enough to know; sizes declared in archives and gzip tails are not trusted.
        try:
            with self.open() as raw:
                if self.compressed:
                    with gzip.GzipFile(fileobj=raw) as file:
                        content = file.read(self.max_bytes + 1)
                else:
                    content = raw.read(self.max_bytes + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise CrystalError("unreadable", f"its compression is damaged ({error}); fetch the file again") from None
        if len(content) > self.max_bytes:
            raise CrystalError("too_large", f"it is larger than {self.max_bytes / 1e6:g} MB; give a smaller file")
        return content

    def text(self) -> str:
        """Return the text with line ends as a newline and without a byte-order mark.

        Raises:
            CrystalError: `empty`, `too_large`, or `unreadable` for binary content.
        """
        content = self.content()
        if not content.strip():
            raise CrystalError("empty", "the file is empty; export it again")
        if b"\0" in content:
            raise CrystalError("unreadable", f"it holds binary data, no text; {ADVICE}")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
        return text.replace("\r\n", "\n").replace("\r", "\n")
