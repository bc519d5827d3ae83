"""The moving average of the weights: validated and saved in place of the last weights."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from crystrata.training.module import TrainingModule


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
