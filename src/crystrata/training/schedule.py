"""The learning rate over time: a cosine that is a pure function of the step, or halving on a plateau of the score."""

from __future__ import annotations

from math import cos, pi
from typing import Any

import lightning as L
from torch.optim.lr_scheduler import ReduceLROnPlateau

from crystrata.presets import Schedule

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
