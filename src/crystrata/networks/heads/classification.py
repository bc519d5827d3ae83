"""One class of several. B samples, K classes, d latent width."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from crystrata.datasets.task_targets import TaskTargets
from crystrata.errors import InputError, UsageError
from crystrata.networks.heads.task_head import TaskHead
from crystrata.networks.layers import Perceptron


class ClassificationHead(TaskHead):
    """Perceptron to logits; the loss is sum(c_y CE) over sum(c_y), so that its scale is that of the cross-entropy.

    Args:
        width: d.
        classes: K.
        hidden: Widths of the hidden layers.
        class_weights: c, (K,), positive; 1 if not given.

    Raises:
        UsageError: Fewer than two classes, or weights that do not fit them.
    """

    class_weights: Tensor

    def __init__(
        self,
        width: int,
        classes: int,
        hidden: Sequence[int] = (128,),
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(width)
        if classes < 2:
            raise UsageError(f"a classification has two classes or more, not {classes}")
        weights = [1.0] * classes if class_weights is None else [float(weight) for weight in class_weights]
        if len(weights) != classes or not all(0 < weight < math.inf for weight in weights):
            raise UsageError(f"class_weights are {classes} positive numbers, one for each class, not {weights}")
        self.register_buffer("class_weights", torch.tensor(weights))
        self.layers = Perceptron([width, *hidden, classes])

    def forward(self, latent: Tensor, labels: TaskTargets | None = None) -> Tensor:
        """Return logits, (B, K)."""
        return self.layers(latent)

    def count(self, labels: TaskTargets) -> Tensor:
        """Return the summed class weights of the known labels."""
        return (self.class_weights[_classes(labels)] * labels.known).sum()

    def loss(self, output: Tensor, labels: TaskTargets) -> tuple[Tensor, Tensor]:
        """Return the summed weighted cross-entropy of the known labels and the sum of their weights."""
        logits = output.where(labels.known.unsqueeze(1), 0.0)
        entropies = functional.cross_entropy(logits, _classes(labels), self.class_weights, reduction="none")
        return (entropies * labels.known).sum(), self.count(labels)

    def predict(self, output: Tensor) -> Tensor:
        """Return the decided class, (B,)."""
        return output.argmax(1)

    def probabilities(self, output: Tensor) -> Tensor:
        """Return the probability of each class, (B, K)."""
        return output.softmax(1)

    def fit(self, labels: TaskTargets) -> None:
        """Look at the labels; nothing is fitted.

        Raises:
            InputError: A known label is no class index from 0 to K - 1.
        """
        known = labels.values[labels.known]
        wrong = known[(known < 0) | (known >= len(self.class_weights)) | (known != known.round())]
        if len(wrong):
            raise InputError(f"{wrong[0].item()} is none of the classes 0 to {len(self.class_weights) - 1}")


def _classes(labels: TaskTargets) -> Tensor:
    """Return class indices (B,), 0 where unknown."""
    return labels.values.where(labels.known, 0).long()
