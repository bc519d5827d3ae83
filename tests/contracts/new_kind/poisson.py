"""A count, as an example of a new kind of task: all of its code. B materials, d latent width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crystrata.datasets.batch import Targets
from crystrata.errors import InputError
from crystrata.graph_settings import GraphSettings
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import Latent
from crystrata.networks.layers import Perceptron
from crystrata.tasks import Task

_LARGEST_LOG = 20.0


class PoissonHead(Head):
    """The mean m of a Poisson distribution, m = s exp(f(h)), with s the mean training label; never negative.

    Args:
        task: The task.
        width: d.
        graph: Not read: latents suffice.
        hidden: Widths of the hidden layers.
    """

    mean: Tensor

    def __init__(self, task: Task, width: int, graph: GraphSettings, hidden: Sequence[int] = (32,)) -> None:
        super().__init__(task, width, graph)
        self.register_buffer("mean", torch.ones(()))
        self.layers = Perceptron([width, *hidden, 1], "none", activation="silu")

    def forward(self, latent: Latent, targets: Targets | None = None) -> Tensor:
        """Return log(m / s), (B,)."""
        return self.layers(latent.pooled).squeeze(1).clamp(-_LARGEST_LOG, _LARGEST_LOG)

    def loss(self, output: Tensor, latent: Latent, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return the summed deviance y log(y / m) - (y - m) of y and m in units of s, and the count."""
        output = output.where(targets.known, 0.0)
        y = targets.values.where(targets.known, self.mean) / self.mean
        return (torch.special.xlogy(y, y) - y * output - y + output.exp()).sum(), self.count(targets)

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return m, (B,)."""
        return self.mean * output.exp()

    @torch.no_grad()
    def fit(self, targets: Targets, fractions: Tensor | None = None) -> None:
        """Fit s.

        Raises:
            InputError: A label is negative.
        """
        known = targets.values[targets.known]
        if bool((known < 0).any()):
            raise InputError("counts are not negative, and some labels are")
        if len(known) and known.mean() > 0:
            self.mean.copy_(known.mean())
