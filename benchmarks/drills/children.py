"""Children that work under hardship: killed at a moment or a step, on a full disk, without privileges."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystrata.errors import CrystrataError

Work = Callable[[], Any]
KILLED = -9  # how a child ends that SIGKILL meets
PATIENCE = 60.0  # seconds after which a child counts as hung
_STEPS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


@dataclass(frozen=True)
class Ending:
    """How a child ended.

    Attributes:
        code: Its exit code; minus the signal if one ended it.
        said: What its work returned, or the message of its error.
        left: Whether processes that it started outlived it.
    """

    code: int
    said: Any
    left: bool


@dataclass(frozen=True)
class Hardship:
    """What a child has to bear.

    Attributes:
        kill_after: Seconds until it is killed.
        kill_at: Step on the file system at which it is killed, from 1: opening, renaming, removing or making a file.
        largest_file: Bytes after which a file cannot grow: to a writer the same as a full disk.
        no_privileges: Whether the permissions of files hold for it even where it belongs to root.
    """

    kill_after: float | None = None
    kill_at: int | None = None
    largest_file: int | None = None
    no_privileges: bool = False


def serve() -> None:
    """Fork children as told over the standard input until it closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what children print must not run into the answers
    while True:
        try:
            order = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        if callable(order):
            order()
            continue
        works, hardship = order
        children = [_fork(work, hardship) for work in works]
        pickle.dump([_await(*child, hardship) for child in children], answers)
        answers.flush()


def _fork(work: Work, hardship: Hardship) -> tuple[int, int, float]:
    read, write = os.pipe()
    started = time.monotonic()
    if pid := os.fork():
        os.close(write)
        return pid, read, started
    os.setpgid(0, 0)
    os.close(read)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what processes that lose their parent have to say
    _bear(hardship)
    code = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said = work()
    except CrystrataError as error:
        code, said = error.exit_code, str(error)
    except BaseException as error:
        code, said = 99, repr(error)
    os.write(write, pickle.dumps(said)[:60_000])
    os._exit(code)


def _bear(hardship: Hardship) -> None:
    if hardship.largest_file is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (hardship.largest_file, resource.RLIM_INFINITY))
    if hardship.no_privileges and os.geteuid() == 0:
        head, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # all capabilities of Linux
        ctypes.CDLL(None).capset(head, none)
    if hardship.kill_at is not None:
        steps = iter(range(1, hardship.kill_at))

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            if event in _STEPS and isinstance(arguments[0], str | Path) and next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)


def _await(pid: int, read: int, started: float, hardship: Hardship) -> Ending:
    if hardship.kill_after is not None:
        time.sleep(max(0.0, started + hardship.kill_after - time.monotonic()))
        os.kill(pid, signal.SIGKILL)  # a child that has ended waits to be asked: its number is not given away yet
    ended = 0
    while not ended and time.monotonic() - started < PATIENCE:
        ended, status = os.waitpid(pid, os.WNOHANG)
        time.sleep(0 if ended else 0.001)
    if not ended:
        os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    left = _outlived(pid)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    if not ended:
        return Ending(98, f"hung for {PATIENCE:.0f} s", left)
    return Ending(os.waitstatus_to_exitcode(status), pickle.loads(said) if said else "", left)


def _outlived(group: int) -> bool:
    """Whether a process of an ended child's group lives on for half a minute; it is then killed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    return True
