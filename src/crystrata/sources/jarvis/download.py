"""The official JARVIS-DFT 3D releases as data, and their way over the wire.

TLS is verified; a file is resumed where it was cut, and never taken for whole before its last byte.
"""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crystrata.errors import DataError, OfflineError, unknown_name
from crystrata.files import storage_errors, write_json

FILES_URL = "https://api.figshare.com/v2/articles/6815699/files?page_size=100"
"""Host's list of all files of the data set (doi 10.6084/m9.figshare.6815699): id, name, size, MD5."""


@dataclass(frozen=True)
class Release:
    """One published file of JARVIS-DFT 3D."""

    name: str  # name in flags and manifests
    url: str  # address of the file
    file_id: int  # the host's number of the file, by which `files_url` lists it
    file_name: str  # name of the file in the cache
    md5: str | None = None  # MD5 that the host publishes; None where it must be asked for at download time
    # records in the file, None where unknown; information for people, the count is taken from the file
    rows: int | None = None
    files_url: str = FILES_URL  # the host's list of files with their MD5


def _release(name: str, file_id: int, file_name: str, *, md5: str | None = None, rows: int | None = None) -> Release:
    return Release(name, f"https://ndownloader.figshare.com/files/{file_id}", file_id, file_name, md5, rows)


RELEASES: dict[str, Release] = {
    release.name: release
    for release in (
        _release("dft_3d_2021", 29204826, "jdft_3d-8-18-2021.json.zip", rows=55_723),
        _release("dft_3d_2022", 38521619, "jdft_3d-12-12-2022.json.zip", md5="fb3e1eb80339a70ff313af1c644c1777",
                 rows=75_993),
        _release("dft_3d_2025", 64391379, "jdft_3d-9-24-2025.json.zip", md5="c3179161ef0d029cf1fa70da463aac6e",
                 rows=93_902),
    )
}  # fmt: skip
"""Name -> release. `dft_3d`, as the data set is called without a year, changes its meaning over time: see ALIASES."""

ALIASES: dict[str, str] = {"dft_3d": "dft_3d_2022"}
"""`dft_3d` is fixed to the 12-12-2022 release, so that a run means the same data next year."""


def get_release(name: str) -> Release:
    """Return a release by name; a UsageError that names the nearest one if none has it."""
    try:
        return RELEASES[ALIASES.get(name, name)]
    except KeyError:
        raise unknown_name("JARVIS release", name, [*RELEASES, *ALIASES]) from None


Progress = Callable[[int, int | None], None]

LOCAL_COPY = "Give a local copy with --data-file PATH, or use --source demo"
MAX_FILE_BYTES = 4 << 30  # the largest release is 0.05 GB
_BLOCK = 1 << 18
_MAX_LIST_BYTES = 1 << 22
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Transport:
    """How to reach the host: the standard opener checks certificates; tests bring their own."""

    opener: urllib.request.OpenerDirector = field(default_factory=urllib.request.build_opener)  # opens requests
    timeout: float = 30.0  # seconds of silence after which a connection counts as cut
    attempts: int = 5  # tries in one call; each goes on where the last one stopped
    pause: float = 1.0  # seconds before the second try, doubled each time
    max_bytes: int = MAX_FILE_BYTES  # A longer file is refused

    def __post_init__(self) -> None:
        self.opener.add_handler(_SafeRedirects())

    def open(self, url: str, headers: dict[str, str]) -> Any:
        """Open an address; every address on the way must be https, except on this machine itself."""
        _require_safe(url)
        headers = {"User-Agent": "crystrata", "Accept-Encoding": "identity", **headers}
        request = urllib.request.Request(url, headers=headers)
        return self.opener.open(request, timeout=self.timeout)

    def read_json(self, url: str) -> Any:
        """Return a small JSON answer; raises OSError, HTTPException or ValueError if there is no such answer."""
        with self.open(url, {"Accept": "application/json"}) as response:
            return json.loads(response.read(_MAX_LIST_BYTES))


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows the host to another address, if that one is safe too."""

    handler_order = urllib.request.HTTPRedirectHandler.handler_order - 1  # before the one that follows anywhere

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        try:
            _require_safe(newurl)
        except DataError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Cut(Exception):
    """The transfer stopped early; what came is kept and the next try goes on from there."""


def _require_safe(url: str) -> None:
    address = urllib.parse.urlsplit(url)
    if address.scheme != "https" and address.hostname not in _LOCAL_HOSTS:
        raise DataError(f"{address.scheme}://{address.hostname}: refused, only https is safe. {LOCAL_COPY}.")


def download(url: str, part: Path, transport: Transport, progress: Progress | None = None) -> None:
    """Bring `part` to the full length that the host states, going on from what is there.

    Beside it, `<part>.json` remembers which version of the file it began. `progress` is called with bytes so far and
    bytes in all, None where unknown. An OfflineError without network; a DataError if the host refuses or sends a web
    page, or the connection is cut again and again; a StorageError if the file cannot be written.
    """
    reason = ""
    for attempt in range(transport.attempts):
        if attempt:
            time.sleep(transport.pause * 2 ** (attempt - 1))
        try:
            return _transfer(url, part, transport, progress)
        except _Cut as cut:
            reason = str(cut)
        except urllib.error.HTTPError as error:
            with error:
                reason = f"the host answered {error.code} {str(error.reason).splitlines()[0] if error.reason else ''}"
            if error.code == 416:  # the part is longer than the file: not this file
                discard(part)
            elif error.code < 500 and error.code not in (408, 429):
                raise DataError(f"{url}: {reason}. {LOCAL_COPY}.") from None
        except (http.client.HTTPException, ConnectionResetError) as error:
            reason = f"the host closed the connection ({type(error).__name__})"
        except OSError as error:
            reason = _no_network(url, error)
            if attempt == 0:
                raise (DataError if _untrusted(error) else OfflineError)(reason) from None
    raise DataError(
        f"{url}: the download was cut {transport.attempts} times (last: {reason}). "
        f"Start the command again: it goes on from {_size(part)} bytes. {LOCAL_COPY}."
    )


def _untrusted(error: OSError) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _no_network(url: str, error: OSError) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    host = urllib.parse.urlsplit(url).hostname
    if _untrusted(error):
        return f"{host}: its certificate cannot be verified ({reason}); nothing was downloaded. {LOCAL_COPY}."
    return f"no network: {host} cannot be reached ({reason}). {LOCAL_COPY}."


def _transfer(url: str, part: Path, transport: Transport, progress: Progress | None) -> None:
    state = _state(url, part)
    have, total = _size(part), state.get("total")
    if have and have == total:
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and state.get("etag"):
        headers["If-Range"] = state["etag"]
    with transport.open(url, headers) as response:
        _require_file(url, response)
        if response.status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if span is None or (int(span[1]), int(span[2])) != (have, total):
                discard(part)
                raise _Cut("the file changed on the host")
        else:  # from the start: the first request, or a host that ignores the range, or another version
            have, total = 0, _length(response)
            discard(part)
            write_json(_state_path(part), {"url": url, "etag": _strong_etag(response), "total": total})
        if not _append(response, part, total, have, transport.max_bytes, progress):
            discard(part)
            raise DataError(f"{url}: the file is longer than {transport.max_bytes >> 20} MiB. {LOCAL_COPY}.")


def _append(response: Any, part: Path, total: int | None, have: int, most: int, progress: Progress | None) -> bool:
    """Write what comes behind the `have` bytes that are there; return whether it stays within `most` bytes."""
    with storage_errors(part), open(part, "ab") as file:
        while max(have, total or 0) <= most:
            try:
                block = response.read1(_BLOCK)  # what has come, not a whole block: a stall loses nothing
            except (http.client.HTTPException, OSError) as error:
                raise _Cut(f"{type(error).__name__} after {have} bytes") from None
            if not block:
                if total is not None and have != total:
                    raise _Cut(f"{have} of {total} bytes came")
                return True
            file.write(block)
            file.flush()
            have += len(block)
            if progress is not None:
                progress(have, total)
    return False


def _require_file(url: str, response: Any) -> None:
    if response.status not in (200, 206):
        raise DataError(
            f"{url}: the host answered {response.status} instead of the file. Open the address in a browser, "
            f"save the file, and give it with --data-file PATH."
        )
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise DataError(f"{url}: a web page came instead of the file (a login page or proxy?). {LOCAL_COPY}.")


def _length(response: Any) -> int | None:
    stated = response.headers.get("Content-Length", "")
    return int(stated) if stated.isdigit() else None


def _strong_etag(response: Any) -> str | None:
    etag = response.headers.get("ETag")
    return etag if etag and etag.startswith('"') else None


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _state(url: str, part: Path) -> dict[str, Any]:
    """Return what is known of the unfinished file; without it, what is there cannot be trusted and goes."""
    try:
        state = json.loads(_state_path(part).read_text(encoding="utf-8"))
        if state["url"] == url and isinstance(state["total"], int) and _size(part) <= state["total"]:
            return dict(state)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    discard(part)
    return {}


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def is_unfinished(part: Path) -> bool:
    """Return whether something is known of an unfinished file, as a killed call leaves it."""
    return _state_path(part).exists()


def discard(part: Path) -> None:
    """Remove an unfinished file and what is known of it."""
    with storage_errors(part):
        part.unlink(missing_ok=True)
        _state_path(part).unlink(missing_ok=True)
