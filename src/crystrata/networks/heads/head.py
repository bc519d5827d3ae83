"""What every head is: it reads latents, gives a masked loss sum and count, and predicts in physical units.

B materials, d latent width, M terms of a validation metric.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from crystrata.datasets.batch import Targets
from crystrata.graph_settings import GraphSettings
from crystrata.networks.latent import Latent
from crystrata.tasks import Task

OWN_ARGUMENTS = ("task", "width", "graph")
"""What every constructor is given; all else are settings of the head."""


class Head(nn.Module):
    """Base of all heads.

    Args:
        task: Its transform, bounds and classes are read from here.
        width: d, width of the latents.
        graph: Settings of the neighbourhoods, for heads that read crystals.

    Attributes:
        form: Form of the targets that it reads; see `Targets`.
        reads_whole_crystals: Whether it needs all atoms, also where one could stand for its symmetric copies.
    """

    form: ClassVar[Literal["fixed", "ragged", "padded"]] = "fixed"
    reads_whole_crystals: ClassVar[bool] = False

    def __init__(self, task: Task, width: int, graph: GraphSettings) -> None:
        super().__init__()
        self.task, self.latent_width = task, width

    def forward(self, latent: Latent, targets: Targets | None = None) -> Tensor:
        """Return the network's output for each material; its form is the head's own.

        Args:
            latent: What the encoders hand over.
            targets: Where a curve is asked (`t`, `lengths`); the labels themselves are not read.
        """
        raise TypeError(f"{type(self).__name__} defines no forward")

    def count(self, targets: Targets) -> Tensor:
        """Return what the loss sum of these labels is to be divided by; it adds up over micro-batches."""
        return targets.known.sum()

    def loss(self, output: Tensor, latent: Latent, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return the loss sum over the known labels, on the standardised scale, and their `count`.

        Args:
            output: Result of `forward`.
            latent: What the output was made from.
            targets: Labels in physical units.
        """
        raise TypeError(f"{type(self).__name__} defines no loss")

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return the prediction in physical units, within the bounds of the task."""
        raise TypeError(f"{type(self).__name__} defines no predict")

    def errors(self, output: Tensor, latent: Latent, targets: Targets) -> Tensor:
        """Return the terms of the validation metric, (M,), whose mean is the metric: errors of known labels."""
        return (self.predict(output, latent) - targets.values).abs()[targets.known]

    def error_scale(self, targets: Targets) -> float:
        """Return what the validation metric is divided by in the selection score; 1 where that would be 0.

        It is the error of a trivial predictor: the mean absolute deviation of the training labels from their mean.
        """
        if not bool(targets.known.any()):
            return 1.0
        values, known = targets.values.double(), targets.known
        axes = 0 if self.form == "fixed" else tuple(range(values.ndim))
        mean = values.where(known, 0.0).sum(axes) / known.sum(axes).clamp(min=1)
        scale = float((values - mean).abs()[known].mean())
        return scale if scale > 0 else 1.0

    @property
    def detail_titles(self) -> tuple[str, ...]:
        """Titles of the further columns of `details`; none unless the head has more to say than one number."""
        return ()

    def details(self, output: Tensor, latent: Latent) -> dict[str, Tensor]:
        """Return the further predicted columns, title -> (B,), in the order of `detail_titles`."""
        return {}

    def fit(self, targets: Targets, fractions: Tensor | None = None) -> None:
        """Fit what the head keeps of the training labels, such as their scale.

        Args:
            targets: All training labels.
            fractions: Atomic fractions of their materials, (B, 103), where they are known.

        Raises:
            InputError: The labels are none that the head can learn.
        """

    @classmethod
    def setting_names(cls) -> list[str]:
        """Names of the settings that the constructor takes."""
        return [name for name in inspect.signature(cls).parameters if name not in OWN_ARGUMENTS]

    @classmethod
    def settings_of(cls, task: Task, input_width: int | None, encoder: dict[str, Any]) -> dict[str, Any]:
        """Return the settings that a task gives its head, completed by what it can know of the encoder.

        Args:
            task: The task.
            input_width: D, width of the descriptor that the network reads; None without one.
            encoder: Settings of the composition encoder.
        """
        return dict(task.head)
