"""What a person sees while a run trains: a bar with the time left, and one line per epoch."""

from __future__ import annotations

from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINES = 40  # epochs are reported at most about this often when there is no terminal


class TrainingProgress(L.Callback):
    """A rich progress bar on a terminal; elsewhere a line every few epochs.

    Args:
        console: Where to write.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar."""
        total = int(trainer.estimated_stepping_batches)
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeElapsedColumn(),
                TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False), TextColumn("{task.fields[note]}"),
                console=self.console,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("training", total=total, completed=trainer.global_step, note="")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the epoch."""
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 1
        note = f"epoch {epoch}/{epochs}  validation MAE/MAD {float(trainer.callback_metrics['val_score']):.4f}"
        if self._bar is not None:
            self._bar.update(self._task, note=note)
        elif epoch == epochs or epoch % max(1, epochs // _LINES) == 0:
            self.console.print(note)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the bar away."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the terminal in order."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
