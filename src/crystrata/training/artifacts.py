"""What training leaves in the run directory: history and best weights after each epoch, checkpoints at any step."""

from __future__ import annotations

import json
import random
import time
from math import isfinite
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from crystrata.files import write_json
from crystrata.networks.training_record import TrainingRecord
from crystrata.networks.weights import pack_network
from crystrata.runs.directory import BEST, CHECKPOINT, HISTORY, TOP
from crystrata.training.callbacks import MovingAverage
from crystrata.training.checkpoints import remove_checkpoint, write_checkpoint
from crystrata.training.module import TrainingModule
from crystrata.training.stopping import StopRequest

SAVE_SECONDS = 600.0
"""Longest time of training that a kill without warning may cost, give or take a step."""


class RunArtifacts(L.Callback):
    """Writes `history.json`, `best.pt` with its runners-up, and `checkpoint.pt`, in this order, after each epoch.

    A checkpoint is also written before the last step of an epoch (so that a run stopped in its validation loses one
    step), every ten minutes, and when a signal asks to stop: always between two steps, never after the last one of an
    epoch, from where Lightning would not come back to the validation.

    Args:
        run: Run directory.
        average: Source of the averaged weights.
        facts: Plain values saved beside the best weights.
        record: What they were trained on, saved beside them too.
        stop: Signals that ask to stop.
        patience: Epochs without a better score after which training stops. Lightning's own early stopping acts after
            the checkpoint is written, so that a resumed run would forget an epoch.
        top_k: Epochs whose weights are kept, the best ones.
        hours: Most hours of training, or None; no epoch starts that would not be over by then.
    """

    def __init__(
        self,
        run: Path,
        average: MovingAverage,
        facts: dict[str, Any],
        record: TrainingRecord,
        stop: StopRequest,
        *,
        patience: int,
        top_k: int,
        hours: float | None,
    ) -> None:
        self.run, self.average, self.facts, self.record, self.stop = run, average, facts, record, stop
        self.patience, self.top_k, self.hours = patience, top_k, hours
        self.best_score, self.best_epoch = float("inf"), -1
        self.history: list[dict[str, Any]] = []
        self._started = self._saved = time.perf_counter()
        self._seconds_before = 0.0
        self._random: dict[str, Any] | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on with the random numbers of a checkpoint; let a run that had stopped early stay stopped."""
        if self._random is not None:
            set_random_state(self._random)
        self._started = self._saved = time.perf_counter()
        self._stop_when_it_is_over(trainer)
        self.stop.deferring = True

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._started, self._seconds_before = time.perf_counter(), 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint where one is due, and stop where a signal asked for it."""
        left = int(trainer.num_training_batches) - batch_idx - 1
        due = left == 1 or self.stop.signum is not None or time.perf_counter() - self._saved > SAVE_SECONDS
        if due and left > 0:
            self._save(trainer, trainer.current_epoch, batch_idx + 1)
        self.stop.raise_if_asked()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let a signal act at once: validation changes nothing."""
        self.stop.deferring = False
        self.stop.raise_if_asked()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let signals wait again."""
        self.stop.deferring = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the artifacts; validation of the epoch is over."""
        task = pl_module
        if not isinstance(task, TrainingModule):
            raise TypeError("RunArtifacts writes the artifacts of TrainingModule")
        score = float(trainer.callback_metrics["val_score"])
        self.history.append(self._epoch_record(trainer, task, score))
        write_json(self.run / HISTORY, self.history)
        self._keep_weights(task, score, trainer.current_epoch + 1)
        self._seconds_before = 0.0
        self._save(trainer, trainer.current_epoch + 1, 0)
        self._stop_when_it_is_over(trainer)
        self.stop.raise_if_asked()

    def _keep_weights(self, task: TrainingModule, score: float, epoch: int) -> None:
        """Write the averaged weights where this epoch is the best so far, or one of the best."""
        scores = [(record["val_score"], record["epoch"]) for record in self.history]
        ranked = sorted(pair for pair in scores if isfinite(pair[0]))
        top = {f"epoch_{number:04d}.pt" for _, number in ranked[: self.top_k]}
        best = score < self.best_score
        if best:
            self.best_score, self.best_epoch = score, epoch
        names = [*([f"{TOP}/{name}"] if (name := f"epoch_{epoch:04d}.pt") in top else []), *([BEST] if best else [])]
        if names:
            facts = {**self.facts, "best_epoch": epoch, "val_score": score}
            weights = pack_network(task.network, self.average.averaged_network(task), facts, self.record)
            for name in names:
                write_checkpoint(self.run / name, weights)
        for file in (self.run / TOP).glob("epoch_*.pt"):
            if file.name not in top:
                remove_checkpoint(file)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing is left that a signal could cost."""
        self.stop.deferring = False
        self.stop.raise_if_asked()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Let signals act at once again."""
        self.stop.deferring = False

    def _save(self, trainer: L.Trainer, epoch: int, done: int) -> None:
        """Write a checkpoint from which a run goes on in an epoch after some of its steps."""
        sampler = trainer.datamodule.sampler  # type: ignore[attr-defined]
        place = sampler.epoch, sampler.done
        sampler.epoch, sampler.done = epoch, done
        trainer.save_checkpoint(self.run / CHECKPOINT)
        sampler.epoch, sampler.done = place
        self._saved = time.perf_counter()

    def _stop_when_it_is_over(self, trainer: L.Trainer) -> None:
        if not self.history:
            return
        spent = [record["seconds"] for record in self.history]
        late = self.hours is not None and sum(spent) + spent[-1] > 3600 * self.hours
        if late or self.history[-1]["epoch"] - self.best_epoch >= self.patience:
            trainer.should_stop = True

    def _epoch_record(self, trainer: L.Trainer, task: TrainingModule, score: float) -> dict[str, Any]:
        maes = {
            name: float(trainer.callback_metrics[f"val_{name}_mae"])
            for name in task.network.losses
            if f"val_{name}_mae" in trainer.callback_metrics
        }
        return {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "train_loss": task.training_losses(),
            "val_mae": maes,
            **({"val_loss": losses} if (losses := task.validation_losses()) else {}),
            "val_score": score,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "sigma": task.balance.sigmas(),
            "bad_steps": task.guard.steps,
            "seconds": self._seconds(),
        }

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started

    def state_dict(self) -> dict[str, Any]:
        """Return the best so far, the history and the state of all random numbers, for a checkpoint."""
        return {
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "history": json.dumps(self.history),
            "seconds": self._seconds(),
            "random": random_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take best and history from a checkpoint, so that a resumed history has no gap and no double."""
        self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]
        self.history = json.loads(state_dict["history"])
        self._seconds_before, self._random = state_dict["seconds"], state_dict["random"]


def random_state() -> dict[str, Any]:
    """Return the state of the generators of torch (CPU and CUDA), numpy and Python."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (torch.from_numpy(np.asarray(keys, dtype=np.int64)), int(position), int(has_gauss), float(cached)),
        "python": (version, list(words), gauss),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Go on where `random_state` was taken; CUDA generators only where there are as many GPUs."""
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
