"""What training leaves in the run directory after each epoch: history, best weights, full checkpoint."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import lightning as L

from crystrata.files import write_json
from crystrata.networks.weights import pack_network
from crystrata.runs.directory import BEST, CHECKPOINT, HISTORY
from crystrata.training.averaging import MovingAverage
from crystrata.training.checkpoints import write_checkpoint
from crystrata.training.task import MultiTaskTraining


class RunArtifacts(L.Callback):
    """Writes `history.json`, `best.pt` and `checkpoint.pt`, in this order, at the end of each epoch.

    Args:
        run: Run directory.
        average: Source of the averaged weights.
        facts: Plain values saved beside the best weights.
        patience: Epochs without a better score after which training stops. Lightning's own early stopping acts after
            the checkpoint is written, so that a resumed run would forget an epoch.
    """

    def __init__(self, run: Path, average: MovingAverage, facts: dict[str, Any], patience: int) -> None:
        self.run, self.average, self.facts, self.patience = run, average, facts, patience
        self.best_score, self.best_epoch = float("inf"), -1
        self.history: list[dict[str, Any]] = []
        self._started = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the artifacts; validation of the epoch is over."""
        task = pl_module
        if not isinstance(task, MultiTaskTraining):
            raise TypeError("RunArtifacts writes the artifacts of MultiTaskTraining")
        score = float(trainer.callback_metrics["val_score"])
        self.history.append(self._epoch_record(trainer, task, score))
        write_json(self.run / HISTORY, self.history)
        if score < self.best_score:
            self.best_score, self.best_epoch = score, trainer.current_epoch + 1
            facts = {**self.facts, "best_epoch": self.best_epoch, "val_score": score}
            write_checkpoint(
                self.run / BEST, pack_network(task.network.config, self.average.averaged_network(task), facts)
            )
        trainer.save_checkpoint(self.run / CHECKPOINT)
        self._stop_when_patience_is_over(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let a resumed run that had stopped early stay stopped."""
        self._stop_when_patience_is_over(trainer)

    def _stop_when_patience_is_over(self, trainer: L.Trainer) -> None:
        if self.history and self.history[-1]["epoch"] - self.best_epoch >= self.patience:
            trainer.should_stop = True

    def _epoch_record(self, trainer: L.Trainer, task: MultiTaskTraining, score: float) -> dict[str, Any]:
        maes = {
            name: float(trainer.callback_metrics[f"val_{name}_mae"])
            for name in task.network.config.properties
            if f"val_{name}_mae" in trainer.callback_metrics
        }
        return {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "train_loss": task.training_losses(),
            "val_mae": maes,
            "val_score": score,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "sigma": task.balance.sigmas(),
            "seconds": time.perf_counter() - self._started,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the best so far and the history, for a checkpoint."""
        return {"best_score": self.best_score, "best_epoch": self.best_epoch, "history": json.dumps(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take best and history from a checkpoint, so that a resumed history has no gap and no double."""
        self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]
        self.history = json.loads(state_dict["history"])
