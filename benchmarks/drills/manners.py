"""How a file host may behave: honest, and every way of being rude that downloads meet."""

from __future__ import annotations

import socket
import struct
import time

from drills.rude_host import Host, Manner, Request

PAGE = b"<!DOCTYPE html><html><body>Please log in.</body></html>"
STALL = 1.5  # seconds of silence; callers give up earlier


def _stall(host: Host, request: Request, most: int) -> None:
    request.file(host.body, most=most)
    request.wfile.flush()
    time.sleep(STALL)


def _reset(host: Host, request: Request) -> None:
    request.file(host.body, most=host.chance.randrange(len(host.body)))
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _tampered(host: Host, request: Request) -> None:
    at = host.chance.randrange(len(host.body))
    request.file(host.body[:at] + bytes([host.body[at] ^ 1 << host.chance.randrange(8)]) + host.body[at + 1 :])


def _redirect(request: Request, to: str) -> None:
    request.reply(302, b"", Location=to)


MANNERS: dict[str, Manner] = {
    "honest": lambda host, request: request.file(host.body),
    "cut": lambda host, request: request.file(host.body, most=host.chance.randrange(len(host.body))),
    "cut at once": lambda host, request: request.file(host.body, most=0),
    "reset": _reset,
    "stall": lambda host, request: _stall(host, request, host.chance.randrange(len(host.body))),
    "no length, cut": lambda host, request: request.chunks(iter([host.body[: host.chance.randrange(len(host.body))]])),
    "endless": lambda host, request: request.chunks(bytes(1 << 16) for _ in range(64)),
    "length too long": lambda host, request: request.reply(200, host.body, length=len(host.body) + 99),
    "length too short": lambda host, request: request.reply(200, host.body, length=len(host.body) - 99),
    "nothing": lambda host, request: request.reply(200, b""),
    "page": lambda host, request: request.reply(200, PAGE, "text/html; charset=utf-8"),
    "page called zip": lambda host, request: request.reply(200, PAGE),
    "error as json": lambda host, request: request.reply(200, b'[{"message": "no such file"}]', "application/json"),
    "tampered": _tampered,
    "another version": lambda host, request: request.file(host.other, etag='"two"'),
    "another version, same etag": lambda host, request: request.file(host.other),
    "wrong part": lambda host, request: request.reply(
        206, host.body[5:], Content_Range=f"bytes 5-{len(host.body) - 1}/{len(host.body)}"
    ),
    "range refused": lambda host, request: request.reply(416, b""),
    "error 500": lambda host, request: request.reply(500, PAGE, "text/html"),
    "error 503": lambda host, request: request.reply(503, b""),
    "too many": lambda host, request: request.reply(429, b""),
    "not found": lambda host, request: request.reply(404, PAGE, "text/html"),
    "challenge": lambda host, request: request.reply(202, b""),
    "no http": lambda host, request: request.wfile.write(b"what do you want?\r\n\r\n") and None,
    "moved": lambda host, request: _redirect(request, "/elsewhere"),
    "moved in circles": lambda host, request: (
        host.manners.extendleft(["moved in circles"] * 20), _redirect(request, "/file"))[-1],
    "moved to an unsafe place": lambda host, request: _redirect(request, "http://crystrata.invalid/file"),
}  # fmt: skip
