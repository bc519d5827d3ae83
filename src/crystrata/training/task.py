"""The one Lightning task: loss, steps, validation metrics and optimiser. B crystals, P properties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import lightning as L
import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from crystrata.datasets.labelled_batch import LabelledBatch
from crystrata.datasets.sampling import Step
from crystrata.networks.balance import LossBalance
from crystrata.networks.multitask import MultiTaskNetwork
from crystrata.training.guard import NonFiniteGuard
from crystrata.training.memory import MicroBatches


@dataclass(frozen=True)
class OptimiserSettings:
    """How weights are trained.

    Attributes:
        lr: Peak learning rate.
        weight_decay: Of AdamW, on weights but not on the balance.
        clip: Largest gradient norm.
        learned_balance: Whether task weights are learned.
        emphasis: How much each task may pull on the shared encoder; 1 where not given.
    """

    lr: float
    weight_decay: float = 1e-5
    clip: float = 0.5
    learned_balance: bool = True
    emphasis: Mapping[str, float] | None = None


class MultiTaskTraining(L.LightningModule):
    """Trains a multi-task network on masked labels.

    A batch of the trainer is an optimiser step, a list of micro-batches. A step whose loss or gradient is not finite
    is left out; one that does not fit into memory is cut finer and repeated.

    Args:
        network: The network; its scaling is already fitted.
        settings: Optimiser and balance.
        spread: Mean absolute deviation of the training labels of each property, in its unit: what an MAE is divided by.
        ids: Id of each crystal of the dataset, so that bad ones can be named.
        console: Where bad steps are told of.
    """

    def __init__(
        self,
        network: MultiTaskNetwork,
        settings: OptimiserSettings,
        spread: Mapping[str, float],
        ids: list[str],
        console: Console,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.settings = settings
        self.spread = dict(spread)
        self.console = console
        self.balance = LossBalance(
            network.config.properties,
            learned=settings.learned_balance,
            emphasis=settings.emphasis,
        )
        self.guard = NonFiniteGuard(ids)
        self.micro_batches, self._evaluation_batches = MicroBatches(), MicroBatches()
        self._errors: dict[str, list[Tensor]] = {}
        self._loss_sums, self._loss_counts = self._no_losses(), self._no_losses()
        self.save_hyperparameters({"network": network.config.as_dict(), "optimiser": asdict(settings)})

    def training_step(self, batches: list[LabelledBatch], index: int) -> None:
        """Carry out an optimiser step."""
        optimizer = self.optimizers()
        sums, counts = self.micro_batches.carry_out(batches, self.set_gradient, self._collate)
        if bool(torch.isfinite(self._clipped_norm() + sums.sum())):
            self._loss_sums = self._loss_sums.to(sums.device) + sums
            self._loss_counts = self._loss_counts.to(counts.device) + counts
            self.guard.good()
        else:
            self._leave_out(batches)
        optimizer.step()  # type: ignore[union-attr]

    def set_gradient(self, batches: list[LabelledBatch]) -> tuple[Tensor, Tensor]:
        """Set the gradient to that of a whole step; return the loss sums and label counts of each property, (P,)."""
        self.forget_gradient()
        sums, counts = self._no_losses(), self._no_losses()
        for batch in batches:
            parts, _ = self.network.losses(batch.crystals, batch.targets, batch.mask, batch.components)
            step_counts = dict(zip(self.network.config.properties, batch.step_counts, strict=True))
            self.balance(parts, step_counts, batch.share).backward()
            sums += torch.stack([part.detach() for part in parts.values()])
            counts += batch.mask.sum(0)
        return sums, counts

    @cached_property
    def _weights(self) -> list[nn.Parameter]:
        """All parameters; the walk through the modules takes a tenth of a small step."""
        return list(self.parameters())

    def forget_gradient(self) -> None:
        """Leave every parameter without a gradient."""
        for weight in self._weights:
            weight.grad = None

    def _clipped_norm(self) -> Tensor:
        return torch.nn.utils.clip_grad_norm_(self._weights, self.settings.clip)

    def _leave_out(self, batches: list[LabelledBatch]) -> None:
        def is_finite(row: int) -> bool:
            sums, _ = self.set_gradient(self._collate(Step(np.array([row]), 1)))
            return bool(torch.isfinite(self._clipped_norm() + sums.sum()))

        rows = torch.cat([batch.rows for batch in batches]).tolist()
        try:
            told = self.guard.bad(self.trainer.global_step + 1, rows, is_finite)
        finally:
            self.forget_gradient()  # the optimiser passes over parameters without a gradient
        self.console.print(told, style="yellow", soft_wrap=True)

    def _collate(self, step: Step) -> list[LabelledBatch]:
        """Return the micro-batches of a step on the device of the network."""
        return [batch.to(self.device) for batch in self.trainer.datamodule.micro_batches(step)]  # type: ignore[attr-defined]

    def _no_losses(self) -> Tensor:
        return torch.zeros(len(self.network.config.properties), dtype=torch.double, device=self.device)

    def on_train_epoch_start(self) -> None:
        """Start the sums of the epoch's training losses."""
        self._loss_sums, self._loss_counts = self._no_losses(), self._no_losses()
        self.guard.steps = []

    def training_losses(self) -> dict[str, float]:
        """Return the mean loss of each property over the epoch so far, on the standardised scale."""
        means = (self._loss_sums / self._loss_counts).tolist()
        return dict(zip(self.network.config.properties, means, strict=True))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the epoch has gathered so far."""
        checkpoint["epoch_so_far"] = {
            "loss_sums": self._loss_sums.cpu(),
            "loss_counts": self._loss_counts.cpu(),
            "bad_steps": self.guard.steps,
            "bad_in_a_row": self.guard.in_a_row,
            "largest_micro_batch": self.micro_batches.largest,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what the epoch had gathered."""
        saved = checkpoint["epoch_so_far"]
        self._loss_sums, self._loss_counts = saved["loss_sums"], saved["loss_counts"]
        self.guard.steps, self.guard.in_a_row = saved["bad_steps"], saved["bad_in_a_row"]
        self.micro_batches.largest = saved["largest_micro_batch"]

    def on_validation_epoch_start(self) -> None:
        """Forget the errors of the last validation."""
        self._errors = {name: [] for name in self.network.config.properties}
        self._evaluation_batches.largest = None  # the same cuts in every validation, of a continued run too

    def validation_step(self, batches: list[LabelledBatch], _: int) -> None:
        """Collect the absolute errors of known labels, in physical units."""
        found = self._evaluation_batches.carry_out(batches, self._absolute_errors, self._collate)
        for name, errors in found.items():
            self._errors[name].extend(errors)

    def _absolute_errors(self, batches: list[LabelledBatch]) -> dict[str, list[Tensor]]:
        errors: dict[str, list[Tensor]] = {name: [] for name in self.network.config.properties}
        for batch in batches:
            predicted = self.network(batch.crystals)
            for column, name in enumerate(errors):
                known = batch.mask[:, column]
                errors[name].append((predicted[name] - batch.targets[:, column]).abs()[known].cpu())
        return errors

    def on_validation_epoch_end(self) -> None:
        """Log the MAE of each property and the selection score, the mean of MAE / MAD."""
        errors = {name: torch.cat(parts) for name, parts in self._errors.items()}
        maes = {name: float(error.mean()) for name, error in errors.items() if len(error)}
        scores = [mae / self.spread[name] for name, mae in maes.items()]
        self.log_dict({f"val_{name}_mae": mae for name, mae in maes.items()})
        self.log("val_score", sum(scores) / len(scores), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW with the balance in a group of its own, without weight decay."""
        groups = [{"params": list(self.network.parameters()), "weight_decay": self.settings.weight_decay}]
        if self.settings.learned_balance:
            groups.append({"params": list(self.balance.parameters()), "weight_decay": 0.0})
        return torch.optim.AdamW(groups, lr=self.settings.lr, fused=True)
