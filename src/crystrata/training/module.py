"""The Lightning module of every training: loss, steps, validation metrics and optimizer. T losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from math import isfinite
from typing import Any

import lightning as L
import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from crystrata.datasets.batch import Batch
from crystrata.datasets.sampling import Step
from crystrata.networks.loss_weights import LossWeights
from crystrata.networks.network import Network
from crystrata.presets import OptimizerName, Schedule
from crystrata.tasks import KINDS
from crystrata.training.bad_steps import MicroBatches, NonFiniteGuard
from crystrata.training.optimizers import build_optimizer


@dataclass(frozen=True)
class HeadOptimizer:
    """How the head of one task is trained.

    Attributes:
        lr: Peak learning rate.
        schedule: Learning rate over time; that of the run if None.
    """

    lr: float
    schedule: Schedule | None = None


@dataclass(frozen=True)
class OptimizerSettings:
    """How weights are trained.

    Attributes:
        lr: Peak learning rate.
        weight_decay: Of weights, but not of the balance.
        clip: Largest gradient norm.
        learned_balance: Whether task weights are learned.
        emphasis: How much each task may pull on the shared encoder; 1 where not given.
        weights: Static weight of the loss of each task; 1 where not given.
        heads: Tasks whose head is trained in another way than the rest.
        name: Rule of the steps, see `optimizers`.
    """

    lr: float
    weight_decay: float = 1e-5
    clip: float = 0.5
    learned_balance: bool = True
    emphasis: Mapping[str, float] | None = None
    weights: Mapping[str, float] | None = None
    heads: Mapping[str, HeadOptimizer] = field(default_factory=dict)
    name: OptimizerName = "adamw"


class TrainingModule(L.LightningModule):
    """Trains a network of several tasks on masked labels.

    A batch of the trainer is an optimizer step, a list of micro-batches. A step whose loss or gradient is not finite
    is left out; one that does not fit into memory is cut finer and repeated.

    Args:
        network: The network; its scaling is already fitted.
        settings: Optimizer and balance.
        error_scale: What the validation metric of each task is divided by in the selection score; see
            `Head.error_scale`.
        ids: Id of each sample of the dataset, so that bad ones can be named.
        console: Where bad steps are reported.
    """

    def __init__(
        self,
        network: Network,
        settings: OptimizerSettings,
        error_scale: Mapping[str, float],
        ids: Sequence[str],
        console: Console,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.settings = settings
        self.error_scale = dict(error_scale)
        self.console = console
        self.balance = LossWeights(
            network.losses,
            learned=settings.learned_balance,
            static=network.config.self_supervised,
            weights=settings.weights,
            emphasis=settings.emphasis,
        )
        self.guard = NonFiniteGuard(ids)
        self.micro_batches, self._evaluation_batches = MicroBatches(), MicroBatches()
        self._errors: dict[str, list[Tensor]] = {}
        self._validation_losses: list[tuple[Tensor, Tensor]] = []
        self._loss_sums, self._loss_counts = self._no_losses(), self._no_losses()
        self.save_hyperparameters({"network": network.config.as_dict(), "optimizer": asdict(settings)})

    def training_step(self, batches: list[Batch], index: int) -> None:
        """Carry out an optimizer step."""
        optimizer = self.optimizers()
        sums, counts = self.micro_batches.carry_out(batches, self.set_gradient, self._collate)
        if bool(torch.isfinite(self._clipped_norm() + sums.sum())):
            self._loss_sums = self._loss_sums.to(sums.device) + sums
            self._loss_counts = self._loss_counts.to(counts.device) + counts
            self.guard.good()
        else:
            self._leave_out(batches)
        optimizer.step()  # type: ignore[union-attr]

    def set_gradient(self, batches: list[Batch]) -> tuple[Tensor, Tensor]:
        """Set the gradient to that of a whole step; return the loss sums and label counts of each task, (T,)."""
        self.forget_gradient()
        sums, counts = self._no_losses(), self.network.step_counts(batches)
        by_task = dict(zip(self.network.losses, counts, strict=True))
        for batch in batches:
            parts = self.network.loss_sums(batch)
            loss = self.balance(parts, by_task, batch.share)
            if loss.requires_grad:  # not where no trained part has a label
                loss.backward()
            sums += torch.stack([part.detach() for part in parts.values()])
        return sums, counts

    @cached_property
    def _classified(self) -> list[str]:
        """Names of the classifications."""
        return [task.name for task in self.network.tasks if KINDS[task.kind].metric == "accuracy"]

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

    def _leave_out(self, batches: list[Batch]) -> None:
        def is_finite(row: int) -> bool:
            sums, _ = self.set_gradient(self._collate(Step(np.array([row]), 1)))
            return bool(torch.isfinite(self._clipped_norm() + sums.sum()))

        rows = torch.cat([batch.rows for batch in batches]).tolist()
        try:
            message = self.guard.bad(self.trainer.global_step + 1, rows, is_finite)
        finally:
            self.forget_gradient()  # the optimizer leaves parameters without a gradient as they are
        self.console.print(message, style="yellow", soft_wrap=True)

    def _collate(self, step: Step) -> list[Batch]:
        """Return the micro-batches of a step on the device of the network, in training as this epoch sees them."""
        step = replace(step, epoch=self.current_epoch if self.training else None)
        return [batch.to(self.device) for batch in self.trainer.datamodule.micro_batches(step)]  # type: ignore[attr-defined]

    def _no_losses(self) -> Tensor:
        return torch.zeros(len(self.network.losses), dtype=torch.double, device=self.device)

    def on_train_epoch_start(self) -> None:
        """Start the sums of the epoch's training losses."""
        self._loss_sums, self._loss_counts = self._no_losses(), self._no_losses()
        self.guard.steps = []

    def training_losses(self) -> dict[str, float]:
        """Return the mean loss of each task over the epoch so far, on the standardised scale."""
        means = (self._loss_sums / self._loss_counts).tolist()
        return dict(zip(self.network.losses, means, strict=True))

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
        self._errors, self._validation_losses = {name: [] for name in self.network.losses}, []
        self._evaluation_batches.largest = None  # the same cuts in every validation, of a continued run too

    def validation_step(self, batches: list[Batch], _: int) -> None:
        """Collect the errors of known labels, in physical units, and the losses."""
        errors, losses = self._evaluation_batches.carry_out(batches, self._found, self._collate)
        for name, terms in errors:
            self._errors[name].append(terms)
        self._validation_losses += losses

    def _found(self, batches: list[Batch]) -> tuple[list[tuple[str, Tensor]], list[tuple[Tensor, Tensor]]]:
        errors, losses = [], []
        for batch in batches:
            terms, sums = self.network.validate(batch)
            errors += [(name, one.cpu()) for name, one in terms.items()]
            counts = self.network.step_counts([batch])
            losses.append((torch.stack(list(sums.values())).double(), counts.double()))
        return errors, losses

    def on_validation_epoch_end(self) -> None:
        """Log the metric of each task, the losses, and the selection score: the mean of metric / scale."""
        errors = {name: torch.cat(parts) for name, parts in self._errors.items() if parts}
        maes = {name: float(error.mean()) for name, error in errors.items() if len(error)}
        scores = [mae / self.error_scale[name] for name, mae in maes.items()]
        self.log_dict({f"val_{name}_mae": mae for name, mae in maes.items()})
        self.log_dict({f"val_{name}_accuracy": 1 - maes[name] for name in self._classified if name in maes})
        self.log_dict({f"val_{name}_loss": loss for name, loss in self.validation_losses().items()})
        self.log("val_score", sum(scores) / len(scores), prog_bar=True)

    @torch.no_grad()
    def validation_losses(self) -> dict[str, float]:
        """Return the mean loss of each task over the last validation, on the standardised scale, and their balance.

        The balance is called `total`, and `final` as well.
        """
        if not self._validation_losses:
            return {}
        sums, counts = (torch.stack(parts).sum(0) for parts in zip(*self._validation_losses, strict=True))
        names = self.network.losses
        total = float(self.balance(dict(zip(names, sums, strict=True)), dict(zip(names, counts, strict=True))))
        means = dict(zip(names, (sums / counts).tolist(), strict=True))
        return {"total": total, "final": total} | {name: mean for name, mean in means.items() if isfinite(mean)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer; the balance, without weight decay, and heads that differ are groups of their own."""
        decay, groups = self.settings.weight_decay, []
        apart: set[nn.Parameter] = set()
        for name, head in self.settings.heads.items():
            weights = list(self.network.get_submodule(f"heads.{name}").parameters())
            schedule = {} if head.schedule is None else {"schedule": head.schedule}
            groups.append({"params": weights, "weight_decay": decay, "lr": head.lr, "peak": head.lr, **schedule})
            apart.update(weights)
        shared = [weight for weight in self.network.parameters() if weight not in apart]
        groups.insert(0, {"params": shared, "weight_decay": decay})
        if self.balance.log_sigma:
            groups.append({"params": list(self.balance.parameters()), "weight_decay": 0.0})
        return build_optimizer(self.settings.name, groups, self.settings.lr)
