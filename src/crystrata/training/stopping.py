"""Stopping a run by a signal: at the next step boundary while it trains, at once elsewhere."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

from rich.console import Console

from crystrata.errors import Interrupted
from crystrata.runs.slurm import REQUEUE_SIGNAL, job_id


class StopRequest:
    """Turns SIGTERM, SIGINT and, in a SLURM job, the requeue signal into `Interrupted`.

    A context manager: the handlers before are put back at its end. Outside the main thread, where Python takes no
    signals, it does nothing.

    Args:
        console: Where it is reported that the step is finished first.

    Attributes:
        deferring: Whether a first signal waits for `raise_if_asked`; a second one acts at once in any case.
        signum: The signal that waits.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.signum: int | None = None
        self.deferring = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            signals: list[int] = [signal.SIGTERM, signal.SIGINT]
            if REQUEUE_SIGNAL is not None and job_id():
                signals.append(REQUEUE_SIGNAL)
            self._before = {signum: signal.signal(signum, self._on_signal) for signum in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def raise_if_asked(self) -> None:
        """Stop here if a signal came.

        Raises:
            Interrupted: It did.
        """
        if self.signum is not None:
            raise Interrupted(self.signum)

    def _on_signal(self, signum: int, _: FrameType | None) -> None:
        if not self.deferring or self.signum is not None:
            raise Interrupted(signum)
        self.signum = signum
        name = signal.Signals(signum).name
        with suppress(RuntimeError):  # the signal came while something was being printed
            self.console.print(f"{name}: stopping after this step; once more stops at once")
