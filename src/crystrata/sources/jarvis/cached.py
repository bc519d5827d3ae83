"""A release cached on disk: checked before it enters the cache, and again each time it is used."""

from __future__ import annotations

import http.client
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from crystrata.errors import DataError
from crystrata.files import lock, md5_of, sha256_of, storage_errors, write_json
from crystrata.sources.jarvis.containers import form_of, text_pieces
from crystrata.sources.jarvis.download import LOCAL_COPY, Progress, Release, Transport, discard, download, is_unfinished


@dataclass(frozen=True)
class Receipt:
    """What was recorded when the file entered the cache, written beside it as `<file>.json`."""

    url: str
    size: int
    sha256: str
    md5: str
    checked_by: str  # `host_md5`, or `first_use` where the host gave no MD5


def obtain(
    release: Release, *, cache_dir: Path, progress: Progress | None = None, transport: Transport | None = None
) -> tuple[Path, Receipt]:
    """Return the checked file of a release and its receipt, downloaded if it is not in the cache.

    A DataError without network, or if the file is not what the host published, or not what was recorded: it is then
    moved aside, and the next call downloads it again. `progress` as in `download`.
    """
    transport = transport or Transport()
    path = cache_dir / release.file_name
    part = path.with_name(path.name + ".part")
    if path.exists() and not is_unfinished(part):
        with suppress(DataError):  # looked at again under the lock, and replaced if damaged; a valid file needs no lock
            if receipt := _recorded(path, release):
                return path, receipt
    with lock(path.with_name(path.name + ".lock")):
        if path.exists():
            try:
                receipt = _recorded(path, release) or _record(path, path, release, transport)
            except DataError as error:
                aside = path.with_name(path.name + ".damaged")
                with storage_errors(aside):
                    os.replace(path, aside)
                raise DataError(
                    f"{error} It was moved to {aside.name}; start again to download a fresh copy."
                ) from None
        else:
            download(release.url, part, transport, progress)
            try:
                receipt = _record(part, path, release, transport)
            except DataError as error:
                discard(part)
                raise DataError(f"{error} It was thrown away; start again. {LOCAL_COPY}.") from None
            with storage_errors(path):
                os.replace(part, path)
        discard(part)
    return path, receipt


def _receipt_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _recorded(path: Path, release: Release) -> Receipt | None:
    """Return the receipt of a cached file that still agrees with it; None without one for this release."""
    try:
        receipt = Receipt(**json.loads(_receipt_path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    if receipt.url != release.url:
        return None
    if path.stat().st_size != receipt.size or sha256_of(path) != receipt.sha256:
        raise DataError(f"{path}: differs from the file recorded when it was downloaded (SHA-256).")
    return receipt


def _record(file: Path, path: Path, release: Release, transport: Transport) -> Receipt:
    """Check a file that has no receipt yet, and write the receipt of the place where it will stand."""
    size, md5 = file.stat().st_size, md5_of(file)
    published_md5, published_size = release.md5, None
    if published_md5 is None:
        published_md5, published_size = _published(release, transport)
    if published_size is not None and size != published_size:
        raise DataError(f"{release.url}: {size} bytes came, the host publishes {published_size}.")
    if published_md5 is not None and md5 != published_md5:
        raise DataError(f"{release.url}: the file is not the published one (MD5 {md5}, published {published_md5}).")
    try:
        if release.file_name.endswith(".zip") and form_of(file) != "zip":
            raise DataError("it is no zip archive.")
        for _ in text_pieces(file):  # every byte is unpacked, which checks the checksums inside
            pass
    except DataError as error:
        raise DataError(f"{release.url}: what came is not the file: {error}") from None
    _sync(file)
    receipt = Receipt(release.url, size, sha256_of(file), md5, "host_md5" if published_md5 else "first_use")
    write_json(_receipt_path(path), asdict(receipt))
    return receipt


def _published(release: Release, transport: Transport) -> tuple[str | None, int | None]:
    """Return MD5 and size as the host lists them; (None, None) where the list cannot be had."""
    try:
        listed = transport.read_json(release.files_url)
        entry = next(one for one in listed if one["id"] == release.file_id)
        md5 = str(entry.get("computed_md5") or entry.get("supplied_md5") or "").lower()
        size = entry.get("size")
    except (OSError, http.client.HTTPException, ValueError, TypeError, KeyError, AttributeError, StopIteration):
        return None, None
    return md5 or None, size if isinstance(size, int) and size > 0 else None


def _sync(file: Path) -> None:
    with storage_errors(file), open(file, "rb+") as opened:
        os.fsync(opened.fileno())
