"""A band gap: is it a metal, and how wide is the gap if not; decided by the median. B materials."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from crystrata.datasets.batch import Targets
from crystrata.graph_settings import GraphSettings
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import Latent
from crystrata.networks.layers import Perceptron
from crystrata.networks.scaling import Scaling
from crystrata.tasks import Task

_LEAST_LOG_WIDTH = -4.0


class GapHead(Head):
    """Metal probability p and, for the others, a Laplace distribution of the gap: median mu, width b.

    The prediction is the median of the mixture, which makes the mean absolute error smallest: 0 where p >= 1/2, else
    the quantile q = (1/2 - p) / (1 - p) of the Laplace distribution, mu + b ln(2 q), never below 0.

    Args:
        task: The task.
        width: d, width of the latents.
        graph: Not read: latents suffice.
        hidden: Widths of the hidden layers.
    """

    def __init__(self, task: Task, width: int, graph: GraphSettings, hidden: Sequence[int] = (128,)) -> None:
        super().__init__(task, width, graph)
        self.scaling = Scaling(task.transform, centre="median")
        self.layers = Perceptron([width, *hidden, 2], "none", activation="silu")
        self.log_width = nn.Parameter(torch.zeros(()))

    def forward(self, latent: Latent, targets: Targets | None = None) -> Tensor:
        """Return metal logit and standardised gap of each material, (B, 2)."""
        return self.layers(latent.pooled)

    def loss(self, output: Tensor, latent: Latent, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return the summed loss and the count; see `Head.loss`.

        Cross-entropy of the metal question plus, for non-metals, the absolute error on the standardised scale. The
        width b learns from the errors without acting on them.
        """
        target, mask = targets.values, targets.known
        metal = (target <= 0).to(output.dtype)
        gapped = mask * (1 - metal)
        question = functional.binary_cross_entropy_with_logits(output[:, 0], metal, reduction="none")
        error = (output[:, 1] - self.scaling.standardise(target.where(mask, 0.0), latent.fractions)).abs()
        width = torch.exp(self.log_width.clamp(min=_LEAST_LOG_WIDTH))
        width_loss = (error.detach() - width).square()  # b becomes the mean error; never negative, as the balance needs
        return (question * mask + (error + width_loss) * gapped).sum(), self.count(targets)

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return the median gap, (B,), in physical units."""
        p = torch.sigmoid(output[:, 0])
        quantile = ((0.5 - p) / (1 - p)).clamp(1e-6, 0.5)
        z = output[:, 1] + torch.exp(self.log_width.clamp(min=_LEAST_LOG_WIDTH)) * torch.log(2 * quantile)
        gap = self.scaling.restore(z, latent.fractions).clamp(min=0.0)
        return torch.where(p < 0.5, gap, 0.0)

    def fit(self, targets: Targets, fractions: Tensor | None = None) -> None:
        """Fit the scaling."""
        self.scaling.fit(targets.values, targets.known)

    @property
    def detail_titles(self) -> tuple[str, ...]:
        """Title of the metal probability."""
        return (f"{self.task.name} metal probability",)

    def details(self, output: Tensor, latent: Latent) -> dict[str, Tensor]:
        """Return the metal probability, (B,)."""
        return {self.detail_titles[0]: torch.sigmoid(output[:, 0])}
