"""One class of several. B samples, K classes, d latent width."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from crystrata.datasets.batch import Targets
from crystrata.errors import InputError, UsageError
from crystrata.graph_settings import GraphSettings
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import Latent
from crystrata.networks.layers import Perceptron
from crystrata.tasks import Task


class ClassificationHead(Head):
    """Perceptron to logits; the loss is sum(c_y CE) over sum(c_y), so that its scale is that of the cross-entropy.

    Args:
        task: The task; K is the number of its classes.
        width: d.
        graph: Not read: latents suffice.
        hidden: Widths of the hidden layers.
        class_weights: c, (K,), positive; 1 if not given.

    Raises:
        UsageError: The weights do not fit the classes.
    """

    class_weights: Tensor

    def __init__(
        self,
        task: Task,
        width: int,
        graph: GraphSettings,
        hidden: Sequence[int] = (128,),
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(task, width, graph)
        classes = len(task.classes)
        weights = [1.0] * classes if class_weights is None else [float(weight) for weight in class_weights]
        if len(weights) != classes or not all(0 < weight < math.inf for weight in weights):
            raise UsageError(f"class_weights are {classes} positive numbers, one for each class, not {weights}")
        self.register_buffer("class_weights", torch.tensor(weights))
        self.layers = Perceptron([width, *hidden, classes])

    def forward(self, latent: Latent, targets: Targets | None = None) -> Tensor:
        """Return logits, (B, K)."""
        return self.layers(latent.pooled)

    def count(self, targets: Targets) -> Tensor:
        """Return the summed class weights of the known labels."""
        return (self.class_weights[_classes(targets)] * targets.known).sum()

    def loss(self, output: Tensor, latent: Latent, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return the summed weighted cross-entropy of the known labels and the sum of their weights."""
        logits = output.where(targets.known.unsqueeze(1), 0.0)
        entropies = functional.cross_entropy(logits, _classes(targets), self.class_weights, reduction="none")
        return (entropies * targets.known).sum(), self.count(targets)

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return the decided class, (B,)."""
        return output.argmax(1)

    def errors(self, output: Tensor, latent: Latent, targets: Targets) -> Tensor:
        """Return 1 for each known label whose class was not decided for, else 0."""
        return (self.predict(output, latent) != targets.values)[targets.known].to(output.dtype)

    def error_scale(self, targets: Targets) -> float:
        """Return the error of always deciding for the most frequent class; 1 where that would be 0."""
        if not bool(targets.known.any()):
            return 1.0
        counts = torch.bincount(targets.values[targets.known].long())
        scale = 1 - float(counts.max() / counts.sum())
        return scale if scale > 0 else 1.0

    def probabilities(self, output: Tensor) -> Tensor:
        """Return the probability of each class, (B, K)."""
        return output.softmax(1)

    def fit(self, targets: Targets, fractions: Tensor | None = None) -> None:
        """Look at the labels; nothing is fitted.

        Raises:
            InputError: A known label is no class index from 0 to K - 1.
        """
        known = targets.values[targets.known]
        wrong = known[(known < 0) | (known >= len(self.class_weights)) | (known != known.round())]
        if len(wrong):
            raise InputError(f"{wrong[0].item()} is none of the classes 0 to {len(self.class_weights) - 1}")


def _classes(targets: Targets) -> Tensor:
    """Return class indices (B,), 0 where unknown."""
    return targets.values.where(targets.known, 0).long()
