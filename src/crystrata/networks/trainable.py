"""What the trainer asks of a network, whatever it reads. T tasks, M terms of a validation metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from crystrata.datasets.training_batch import TrainingBatch

Batch = TypeVar("Batch", bound=TrainingBatch)


class TrainableNetwork(nn.Module, Generic[Batch]):
    """Base of the networks that `TrainingModule` trains.

    Attributes:
        config: Plain values that it is made of (`as_dict`).
    """

    config: Any

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of everything that has a loss, in order, T of them."""
        raise TypeError(f"{type(self).__name__} defines no tasks")

    @property
    def unbalanced_tasks(self) -> tuple[str, ...]:
        """Those among the tasks whose weight is never learned."""
        return ()

    @property
    def training_form(self) -> Any:
        """What it reads of the data it is trained on, handed to the dataset as it is."""
        return None

    def loss_sums(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss sum of each task over a micro-batch."""
        raise TypeError(f"{type(self).__name__} defines no losses")

    @property
    def classified(self) -> tuple[str, ...]:
        """Those among the tasks whose validation metric is the share of wrong classes."""
        return ()

    def validation_losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor] | None:
        """Return loss sums and what they are divided by, as in training; None where validation goes without losses."""
        return None

    def step_counts(self, batches: Sequence[Batch]) -> Tensor:
        """Return what the loss sums of a whole step, cut into micro-batches, are divided by, (T,)."""
        raise TypeError(f"{type(self).__name__} defines no counts")

    def errors(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the validation metric, task -> (M,): their mean is the figure of the task.

        They are absolute errors in physical units; 1 where the class is wrong, else 0; squared errors of a descriptor.
        """
        raise TypeError(f"{type(self).__name__} defines no errors")
