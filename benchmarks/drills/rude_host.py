"""A file host on this machine whose manners the drill chooses, one for each of the next requests."""

from __future__ import annotations

import hashlib
import io
import json
import random
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from crystrata.sources.jarvis import Release


def records(seed: int) -> bytes:
    """A zip archive of some JARVIS records that hardly shrink."""
    chance = random.Random(seed)
    rows = [
        {"jid": f"JVASP-{row}", "formation_energy_peratom": chance.random(),
         "atoms": {"lattice_mat": [[4, 0, 0], [0, 4, 0], [0, 0, 4]], "coords": [[chance.random() for _ in range(3)]],
                   "elements": ["Na"], "cartesian": False}}
        for row in range(5000)
    ]  # fmt: skip
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(zipfile.ZipInfo("records.json"), json.dumps(rows), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


Manner = Callable[["Host", "Request"], None]


class Host:
    """What the host holds and how it behaves.

    Attributes:
        body: The published file.
        known: Name -> how to answer.
        manners: Names for the next requests of the file; `honest` when there are none left.
        slow: Whether the file comes in pieces, over some 60 ms.
        listed: Whether the host lists the MD5 of the file.
        ranges: The ranges that were asked for.
    """

    def __init__(self, body: bytes, other: bytes, known: dict[str, Manner]) -> None:
        self.body, self.other, self.known = body, other, known
        self.manners: deque[str] = deque()
        self.slow, self.listed, self.url = False, True, ""
        self.ranges: list[str] = []
        self.chance = random.Random(0)
        self._turn = threading.Lock()

    def release(self, *, pinned: bool) -> Release:
        """The file as a release; with its MD5 or with that the host lists."""
        md5 = hashlib.md5(self.body, usedforsecurity=False).hexdigest() if pinned else None
        return Release("drill", f"{self.url}/file", 7, "drill.json.zip", md5, files_url=f"{self.url}/files")

    def answer(self, request: Request) -> None:
        """Answer one request."""
        if request.path == "/files":
            md5 = hashlib.md5(self.body, usedforsecurity=False).hexdigest()
            listed = [{"id": 7, "computed_md5": md5, "size": len(self.body)}] if self.listed else []
            request.reply(200, json.dumps(listed).encode(), "application/json")
            return
        with self._turn:
            self.ranges.append(request.headers.get("Range", ""))
            manner = self.manners.popleft() if self.manners and request.path == "/file" else "honest"
        self.known[manner](self, request)


class Request(BaseHTTPRequestHandler):
    """One request, with the ways to answer it."""

    host: Host

    def do_GET(self) -> None:
        """Answer as the host's manners say."""
        self.host.answer(self)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def reply(
        self, status: int, body: bytes, kind: str = "application/zip", *, length: int | None = None, **headers: str
    ) -> None:
        """Send a status, headers and a body, whose length may be a lie."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        for at in range(0, len(body), 1 << 14):
            self.wfile.write(body[at : at + (1 << 14)])
            if self.host.slow:
                time.sleep(0.003)

    def file(self, body: bytes, *, most: int | None = None, etag: str = '"one"') -> None:
        """Send a file or the part of it that is asked for, cut after some bytes."""
        start = int(self.headers.get("Range", "").removeprefix("bytes=").rstrip("-") or 0)
        if start and self.headers.get("If-Range", etag) == etag:
            status, part = 206, body[start:]
            headers = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        else:
            status, part, headers = 200, body, {}
        self.reply(status, part[:most], length=len(part), ETag=etag, **headers)

    def chunks(self, pieces: Iterator[bytes]) -> None:
        """Send pieces without saying how many there are."""
        self.send_response(200)
        self.send_header("Content-Type", "application/zip")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)


@contextmanager
def serving(host: Host) -> Iterator[Host]:
    """Serve until the end of the block."""
    handler = type("_Request", (Request,), {"host": host})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        host.url = f"http://127.0.0.1:{server.server_port}"
        yield host
        server.shutdown()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that was killed or gave up is no fault of the host."""
