"""A number or a vector. B samples, k components, d latent width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from crystrata.datasets.task_targets import TaskTargets
from crystrata.networks.heads.task_head import TaskHead
from crystrata.networks.layers import Perceptron
from crystrata.networks.task_scaling import ErrorKind, TaskScaling, TaskTransform, checked_error, known_errors


class RegressionHead(TaskHead):
    """Perceptron with a linear output on standardised targets; every component of a vector has its own mask.

    Args:
        width: d.
        hidden: Widths of the hidden layers.
        components: k; None for one number.
        transform: Of the labels: `identity`, `asinh` or `log1p`.
        error: `mse`, `huber` with delta 1, or `mae`.
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int] = (128,),
        components: int | None = None,
        transform: TaskTransform = "identity",
        error: ErrorKind = "mse",
    ) -> None:
        super().__init__(width)
        self.components, self.error = components, checked_error(error)
        self.scaling = TaskScaling(transform, components)
        self.layers = Perceptron([width, *hidden, components or 1])

    def forward(self, latent: Tensor, labels: TaskTargets | None = None) -> Tensor:
        """Return standardised values, (B,) or (B, k)."""
        output = self.layers(latent)
        return output.squeeze(1) if self.components is None else output

    def loss(self, output: Tensor, labels: TaskTargets) -> tuple[Tensor, Tensor]:
        """Return the summed error of the known components and their count."""
        errors = known_errors(self.error, output, self.scaling.standardise(labels.values), labels.known)
        return errors.sum(), self.count(labels)

    def predict(self, output: Tensor) -> Tensor:
        """Return values in physical units, (B,) or (B, k)."""
        return self.scaling.restore(output)

    def fit(self, labels: TaskTargets) -> None:
        """Fit the scaling."""
        self.scaling.fit(labels.values, labels.known)
