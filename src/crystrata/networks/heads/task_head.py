"""What the head of a task is: latents in, masked loss sum and count out, predictions in physical units.

The heads of `head.py` read crystals and belong to a property record; these read latents alone and belong to any column
of a table. B samples, d latent width.
"""

from __future__ import annotations

import inspect
from typing import ClassVar, Literal

from torch import Tensor, nn

from crystrata.datasets.task_targets import TaskTargets


class TaskHead(nn.Module):
    """Base of the heads of tasks.

    Args:
        width: d, width of the latents.

    Attributes:
        form: Form of the targets that it reads; see `TaskTargets`.
    """

    form: ClassVar[Literal["fixed", "ragged", "padded"]] = "fixed"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.latent_width = width

    def forward(self, latent: Tensor, labels: TaskTargets | None = None) -> Tensor:
        """Return the network's output; its form is the head's own.

        Args:
            latent: What the encoder hands over, (B, d).
            labels: Where a curve is asked (`t`, `lengths`); the labels themselves are not read.
        """
        raise TypeError(f"{type(self).__name__} defines no forward")

    def count(self, labels: TaskTargets) -> Tensor:
        """Return what the loss sum of these labels is to be divided by; it adds up over micro-batches."""
        return labels.known.sum()

    def loss(self, output: Tensor, labels: TaskTargets) -> tuple[Tensor, Tensor]:
        """Return the loss sum over the known labels, on the standardised scale, and their `count`."""
        raise TypeError(f"{type(self).__name__} defines no loss")

    def predict(self, output: Tensor) -> Tensor:
        """Return the prediction in physical units."""
        raise TypeError(f"{type(self).__name__} defines no predict")

    def fit(self, labels: TaskTargets) -> None:
        """Fit what the head keeps of the training labels, such as their scale.

        Raises:
            InputError: The labels are none that the head can learn.
        """

    @classmethod
    def setting_names(cls) -> list[str]:
        """Names of the settings that the constructor takes besides the width."""
        return list(inspect.signature(cls).parameters)[1:]
