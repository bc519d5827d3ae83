"""The descriptor back from the latent: for the search of compositions in latents. B samples, D descriptor width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from crystrata.datasets.batch import Targets
from crystrata.errors import UsageError
from crystrata.graph_settings import GraphSettings
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import Latent
from crystrata.networks.layers import Perceptron
from crystrata.networks.scaling import known_errors
from crystrata.tasks import Task


class AutoencoderHead(Head):
    """Perceptron from the latent to the descriptor, by the squared error of each of its numbers, unscaled.

    Its targets are no labels but the input of the encoder: `Targets(x, x.isfinite())`.

    Args:
        task: The task.
        width: d.
        graph: Not read: latents suffice.
        input_dim: D.
        hidden: Widths of the hidden layers: those of the encoder, backwards.
        non_negative: Whether softplus keeps the descriptor above 0.
    """

    def __init__(
        self,
        task: Task,
        width: int,
        graph: GraphSettings,
        input_dim: int,
        hidden: Sequence[int] = (128,),
        non_negative: bool = False,
    ) -> None:
        super().__init__(task, width, graph)
        self.non_negative = non_negative
        self.layers = Perceptron([width, *hidden, input_dim])

    def forward(self, latent: Latent, targets: Targets | None = None) -> Tensor:
        """Return descriptors, (B, D)."""
        x = self.layers(latent.pooled)
        return functional.softplus(x) if self.non_negative else x

    def loss(self, output: Tensor, latent: Latent, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return the summed squared error and the count of numbers."""
        return known_errors("mse", output, targets.values, targets.known).sum(), self.count(targets)

    def errors(self, output: Tensor, latent: Latent, targets: Targets) -> Tensor:
        """Return the mean squared error of each descriptor, (B,), in units of the training variance."""
        squares = (output - targets.values).square().where(targets.known, 0.0)
        return squares.sum(1) / targets.known.sum(1).clamp(min=1)

    def error_scale(self, targets: Targets) -> float:
        """Return 1: the error is in units of the training variance already."""
        return 1.0

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return descriptors, (B, D)."""
        return output

    @classmethod
    def settings_of(cls, task: Task, input_width: int | None, encoder: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of the task with the width of the descriptor, and the layers of the encoder backwards.

        Raises:
            UsageError: The network reads no descriptor.
        """
        if input_width is None:
            raise UsageError(f"task {task.name!r} rebuilds a descriptor: choose a composition encoder")
        settings = {**task.head, "input_dim": input_width}
        if "dims" not in settings and "hidden_dims" in encoder:
            settings.setdefault("hidden", list(encoder["hidden_dims"][-2:0:-1]))
        return settings
