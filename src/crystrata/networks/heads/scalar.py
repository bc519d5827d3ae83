"""A number or a vector. B materials, k components, d latent width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from crystrata.datasets.batch import Targets
from crystrata.graph_settings import GraphSettings
from crystrata.networks.density import mean_over_crystals
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import Latent
from crystrata.networks.layers import Activation, Norm, Perceptron
from crystrata.networks.scaling import Centre, ErrorKind, Scaling, checked_error, known_errors
from crystrata.tasks import Task


class ScalarHead(Head):
    """Perceptron with a linear output on standardised labels; every component of a vector has its own mask.

    An energy is a mean over atoms: where crystals are read, its perceptron reads each atom, and the mean is taken last.

    Args:
        task: The task.
        width: d.
        graph: Not read: latents suffice.
        hidden: Widths of the hidden layers.
        components: k; None for one number.
        norm: Norm of the hidden layers.
        activation: Activation of the hidden layers.
        error: `mae`, `mse`, or `huber` with delta 1.
        centre: What the labels are centred by, `median` or `mean`.
    """

    def __init__(
        self,
        task: Task,
        width: int,
        graph: GraphSettings,
        hidden: Sequence[int] = (128,),
        components: int | None = None,
        norm: Norm = "none",
        activation: Activation = "silu",
        error: ErrorKind = "mae",
        centre: Centre = "median",
    ) -> None:
        super().__init__(task, width, graph)
        self.components, self.error = components, checked_error(error)
        self.scaling = Scaling(task.transform, components, centre, ridge=task.additive)
        self.layers = Perceptron([width, *hidden, components or 1], norm, activation=activation)

    def forward(self, latent: Latent, targets: Targets | None = None) -> Tensor:
        """Return standardised values, (B,) or (B, k)."""
        if self.task.additive and latent.atoms is not None:
            output = mean_over_crystals(self.layers(latent.atoms), latent.crystals()[1])
        else:
            output = self.layers(latent.pooled)
        return output.squeeze(1) if self.components is None else output

    def loss(self, output: Tensor, latent: Latent, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return the summed error of the known components and their count; no branch on the data."""
        wanted = self.scaling.standardise(targets.values.where(targets.known, 0.0), latent.fractions)
        return known_errors(self.error, output, wanted, targets.known).sum(), self.count(targets)

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return values in physical units, (B,) or (B, k)."""
        value = self.scaling.restore(output, latent.fractions)
        return value if self.task.lower is None else value.clamp(min=self.task.lower)

    def fit(self, targets: Targets, fractions: Tensor | None = None) -> None:
        """Fit the scaling."""
        self.scaling.fit(targets.values, targets.known, fractions)
