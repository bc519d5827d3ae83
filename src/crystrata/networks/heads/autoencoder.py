"""The descriptor back from the latent: needed where a recipe is sought from a latent. B samples, D descriptor width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from crystrata.datasets.task_targets import TaskTargets
from crystrata.networks.heads.task_head import TaskHead
from crystrata.networks.layers import Perceptron
from crystrata.networks.task_scaling import known_errors


class AutoencoderHead(TaskHead):
    """Perceptron from the latent to the descriptor, by the squared error of each of its numbers, unscaled.

    Its targets are no labels but the input of the encoder: `TaskTargets(x, x.isfinite())`.

    Args:
        width: d.
        input_dim: D.
        hidden: Widths of the hidden layers: those of the encoder, backwards.
        non_negative: Whether softplus keeps the descriptor above 0.
    """

    def __init__(self, width: int, input_dim: int, hidden: Sequence[int] = (128,), non_negative: bool = False) -> None:
        super().__init__(width)
        self.non_negative = non_negative
        self.layers = Perceptron([width, *hidden, input_dim])

    def forward(self, latent: Tensor, labels: TaskTargets | None = None) -> Tensor:
        """Return descriptors, (B, D)."""
        x = self.layers(latent)
        return functional.softplus(x) if self.non_negative else x

    def loss(self, output: Tensor, labels: TaskTargets) -> tuple[Tensor, Tensor]:
        """Return the summed squared error and the count of numbers."""
        return known_errors("mse", output, labels.values, labels.known).sum(), self.count(labels)

    def predict(self, output: Tensor) -> Tensor:
        """Return descriptors, (B, D)."""
        return output
