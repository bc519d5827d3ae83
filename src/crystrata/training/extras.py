"""What a person adds to the Lightning trainer of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lightning as L
from lightning.pytorch.loggers import Logger


@dataclass(frozen=True)
class Extras:
    """Callbacks and loggers beside those of every run.

    Attributes:
        callbacks: Called after our own.
        loggers: Fed beside the logs of the run.
        own_logs: Whether the run keeps its own logs, CSV and TensorBoard.
    """

    callbacks: Sequence[L.Callback] = ()
    loggers: Sequence[Logger] = ()
    own_logs: bool = True


NO_EXTRAS = Extras()
