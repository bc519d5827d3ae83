"""What is done between the steps of a training: the learning rate, the moving average of the weights, and what a person
sees.
"""

from __future__ import annotations

from math import cos, pi
from typing import Any

import lightning as L
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from crystrata.presets import Schedule
from crystrata.training.module import TrainingModule

_FINAL = 0.01  # of the peak, at the end of the cosine
_WARM_UP = 0.05  # of all steps
_PLATEAU_FACTOR, _PLATEAU_PATIENCE = 0.5, 20


class LearningRate(L.Callback):
    """Sets the learning rate of every step.

    Lightning's own schedulers are stepped after a checkpoint is written, so that a resumed run would miss a step.

    Args:
        schedule: `cosine` (per step, to 1 % of the peak), `plateau` (halved without progress) or `constant`; for
            groups of the optimizer that name no `schedule` of their own.
        peak: Peak learning rate, for groups that name no `peak`.
        patience: Most validations without progress that the plateau rule waits (and never more than 20).
    """

    def __init__(self, schedule: Schedule, peak: float, patience: int = 20) -> None:
        self.schedule, self.peak, self.patience = schedule, peak, patience
        self._plateau: ReduceLROnPlateau | None = None
        self._saved: dict[str, Any] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Attach the plateau rule to the optimizer, continuing where a checkpoint left it."""
        groups = trainer.optimizers[0].param_groups
        if any(self._schedule(group) == "plateau" for group in groups):
            self._plateau = ReduceLROnPlateau(
                trainer.optimizers[0],
                factor=_PLATEAU_FACTOR,
                patience=min(_PLATEAU_PATIENCE, self.patience),
                min_lr=[(_FINAL if self._schedule(group) == "plateau" else 1) * self._peak(group) for group in groups],
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take over the state of a resumed run (restored after `on_fit_start`)."""
        if self._plateau is not None and self._saved:
            self._plateau.load_state_dict(self._saved)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rate of this step."""
        factor = cosine_factor(trainer.global_step, int(trainer.estimated_stepping_batches))
        for group in trainer.optimizers[0].param_groups:
            if self._schedule(group) == "cosine":
                group["lr"] = self._peak(group) * factor

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Halve the rate where the score has stopped falling."""
        if self._plateau is not None:
            self._plateau.step(float(trainer.callback_metrics["val_score"]))

    def _schedule(self, group: dict[str, Any]) -> Schedule:
        return group.get("schedule", self.schedule)

    def _peak(self, group: dict[str, Any]) -> float:
        return group.get("peak", self.peak)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the plateau rule for a checkpoint."""
        return self._plateau.state_dict() if self._plateau is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of a checkpoint until training starts."""
        self._saved = state_dict


def cosine_factor(step: int, steps: int) -> float:
    """Return the learning rate at a step as a fraction of the peak: linear warm-up, cosine to 1 %."""
    warm_up = max(1, round(_WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    progress = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return _FINAL + (1 - _FINAL) * 0.5 * (1 + cos(pi * progress))


class MovingAverage(L.Callback):
    """Keeps e <- d e + (1 - d) w after each step, d = min(decay, (1 + t) / (10 + t)), and swaps it in for validation.

    The ramp lets short runs follow their weights; a fixed decay of 0.999 would still hold the random start after a few
    hundred steps.

    Args:
        decay: Final decay.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self.steps = 0
        self._weights: dict[str, Tensor] | None = None
        self._current: list[Tensor] = []  # the weights as they are, in the order of the average

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start at the current weights, unless a checkpoint brought the average along."""
        parameters = _parameters(pl_module)
        if not self.average:
            self.average = {name: weight.clone() for name, weight in parameters.items()}
        self.average = {name: average.to(parameters[name].device) for name, average in self.average.items()}
        self._current = [parameters[name] for name in self.average]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the average after each optimizer step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.average.values()), self._current, 1 - decay)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Swap the average in."""
        self._weights = {name: weight.clone() for name, weight in _parameters(pl_module).items()}
        _set(pl_module, self.average)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Swap the weights back."""
        if self._weights is not None:
            _set(pl_module, self._weights)
            self._weights = None

    def averaged_network(self, task: TrainingModule) -> dict[str, Tensor]:
        """Return the state of the network with averaged weights."""
        state = {name: tensor.detach().clone() for name, tensor in task.network.state_dict().items()}
        state.update({name: average.clone() for name, average in self.average.items()})
        return state

    def state_dict(self) -> dict[str, Any]:
        """Return the average for a checkpoint."""
        return {"average": self.average, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the average from a checkpoint."""
        self.average, self.steps = dict(state_dict["average"]), state_dict["steps"]


def _parameters(module: L.LightningModule) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in module.get_submodule("network").named_parameters()}


@torch.no_grad()
def _set(module: L.LightningModule, values: dict[str, Tensor]) -> None:
    for name, parameter in module.get_submodule("network").named_parameters():
        parameter.copy_(values[name])


_LINES = 40  # epochs are reported at most about this often


class TrainingProgress(L.Callback):
    """A line every few epochs, and on a terminal a bar below them with the time left.

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
                TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False),
                console=self.console,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("training", total=total, completed=trainer.global_step)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the epoch."""
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 1
        if epoch == epochs or epoch % max(1, epochs // _LINES) == 0:
            score = float(trainer.callback_metrics["val_score"])
            self.console.print(f"epoch {epoch}/{epochs}  validation MAE/MAD {score:.4f}")

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
