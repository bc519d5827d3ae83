"""A clean process of one thread that forks a child for each attempt, so that a kill costs milliseconds.

    ending = yard(prepare).run(partial(build, folder), kill_after=0.1)

Forking the drill itself would copy the locks of its other threads.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
from functools import cache
from typing import Any

from drills.children import Ending, Hardship, Work
from drills.drill import NotTried


class Yard:
    """Forks children, one or several at once, and says how they ended."""

    def __init__(self) -> None:
        if not hasattr(os, "fork"):
            raise NotTried("this system cannot fork")
        path = os.pathsep.join(part for part in sys.path if part)
        self._server = subprocess.Popen(
            [sys.executable, "-c", "from drills.children import serve; serve()"],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        atexit.register(self._server.communicate)

    def _send(self, order: Any) -> None:
        assert self._server.stdin is not None
        pickle.dump(order, self._server.stdin)
        self._server.stdin.flush()

    def prepare(self, work: Work) -> None:
        """Do some work in the process that children are forked from, so that they find imported what they need."""
        self._send(work)

    def run(self, work: Work, **hardship: Any) -> Ending:
        """Do the work in a child; `hardship` as in `Hardship`."""
        return self.run_all([work], **hardship)[0]

    def run_all(self, works: list[Work], **hardship: Any) -> list[Ending]:
        """Do several works at once, each in a child of its own."""
        self._send((works, Hardship(**hardship)))
        assert self._server.stdout is not None
        endings: list[Ending] = pickle.load(self._server.stdout)
        return endings


@cache
def _started() -> Yard:
    return Yard()


def yard(prepare: Work) -> Yard:
    """Return the one yard of this process, prepared."""
    _started().prepare(prepare)
    return _started()
