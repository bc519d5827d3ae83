"""The one Lightning task: loss, validation metrics, optimiser and schedule. B crystals, P properties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import lightning as L
import torch
from torch import Tensor

from crystrata.datasets.labelled_batch import LabelledBatch
from crystrata.networks.balance import LossBalance
from crystrata.networks.multitask import MultiTaskNetwork


@dataclass(frozen=True)
class OptimiserSettings:
    """How weights are trained.

    Attributes:
        lr: Peak learning rate.
        weight_decay: Of AdamW, on weights but not on the balance.
        accumulate: Micro-batches per step.
        learned_balance: Whether task weights are learned.
        emphasis: How much each task may pull on the shared encoder; 1 where not given.
    """

    lr: float
    weight_decay: float = 1e-5
    accumulate: int = 1
    learned_balance: bool = True
    emphasis: Mapping[str, float] | None = None


class MultiTaskTraining(L.LightningModule):
    """Trains a multi-task network on masked labels.

    Args:
        network: The network; its scaling is already fitted.
        settings: Optimiser and balance.
        spread: Mean absolute deviation of the training labels of each property, in its unit: what an MAE is divided by.
    """

    def __init__(self, network: MultiTaskNetwork, settings: OptimiserSettings, spread: Mapping[str, float]) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.spread = dict(spread)
        self.balance = LossBalance(
            network.config.properties,
            learned=settings.learned_balance,
            emphasis=settings.emphasis,
        )
        self._errors: dict[str, list[Tensor]] = {}
        self.save_hyperparameters({"network": network.config.as_dict(), "optimiser": asdict(settings)})

    def training_step(self, batch: LabelledBatch, index: int) -> Tensor:
        """Return the loss of a micro-batch; over a step the micro-batches add up to the step's exact loss."""
        sums, _ = self.network.losses(batch.crystals, batch.targets, batch.mask, batch.components)
        counts = dict(zip(self.network.config.properties, batch.step_counts, strict=True))
        loss = self.balance(sums, counts, batch.share)
        detached = {name: float(total.detach()) for name, total in sums.items()}
        self._collect(detached, batch)
        # Lightning divides by the number of micro-batches, but `counts` already are those of the whole step.
        return loss * self.settings.accumulate

    def on_train_epoch_start(self) -> None:
        """Start the sums of the epoch's training losses."""
        self._loss_sums = dict.fromkeys(self.network.config.properties, 0.0)
        self._loss_counts = dict.fromkeys(self.network.config.properties, 0)

    def _collect(self, sums: Mapping[str, float], batch: LabelledBatch) -> None:
        for (name, total), count in zip(sums.items(), batch.mask.sum(0).tolist(), strict=True):
            self._loss_sums[name] += total
            self._loss_counts[name] += count

    def training_losses(self) -> dict[str, float]:
        """Return the mean loss of each property over the epoch so far, on the standardised scale."""
        return {
            name: total / self._loss_counts[name] if self._loss_counts[name] else float("nan")
            for name, total in self._loss_sums.items()
        }

    def on_validation_epoch_start(self) -> None:
        """Forget the errors of the last validation."""
        self._errors = {name: [] for name in self.network.config.properties}

    def validation_step(self, batch: LabelledBatch, _: int) -> None:
        """Collect the absolute errors of known labels, in physical units."""
        predicted = self.network(batch.crystals)
        for column, name in enumerate(self.network.config.properties):
            known = batch.mask[:, column]
            self._errors[name].append((predicted[name] - batch.targets[:, column]).abs()[known].cpu())

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
