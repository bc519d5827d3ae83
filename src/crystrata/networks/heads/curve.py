"""What the heads of curves y(t) share: scaling of both axes, and a loss in which every curve counts the same."""

from __future__ import annotations

import torch
from torch import Tensor

from crystrata.datasets.task_targets import TaskTargets
from crystrata.networks.heads.task_head import TaskHead
from crystrata.networks.task_scaling import (
    CoordinateScaling,
    ErrorKind,
    TaskScaling,
    TaskTransform,
    checked_error,
    known_errors,
)


class CurveHead(TaskHead):
    """Base of the heads of curves: the loss is the mean over the known points of a curve, summed over the curves.

    Args:
        width: d.
        transform: Of the labels: `identity`, `asinh` or `log1p`.
        error: `mse`, `huber` with delta 1, or `mae`.
    """

    def __init__(self, width: int, transform: TaskTransform = "identity", error: ErrorKind = "mse") -> None:
        super().__init__(width)
        self.error = checked_error(error)
        self.scaling = TaskScaling(transform)
        self.coordinate = CoordinateScaling()

    def count(self, labels: TaskTargets) -> Tensor:
        """Return the number of curves with a known point."""
        return (labels.known_points() > 0).sum()

    def loss(self, output: Tensor, labels: TaskTargets) -> tuple[Tensor, Tensor]:
        """Return the sum over curves of the mean error of their known points, and the number of curves."""
        errors = known_errors(self.error, output, self.scaling.standardise(labels.values), labels.known)
        points = labels.known_points().clamp(min=1)
        share = points[labels.sample] if labels.is_ragged else points.unsqueeze(1)
        return (errors / share).sum(), self.count(labels)

    def predict(self, output: Tensor) -> Tensor:
        """Return values in physical units, of the shape of the output."""
        return self.scaling.restore(output)

    @torch.no_grad()
    def fit(self, labels: TaskTargets) -> None:
        """Fit the scaling of labels and coordinates."""
        self.scaling.fit(labels.values, labels.known)
        if labels.t is not None:
            self.coordinate.fit(labels.t[labels.known])
