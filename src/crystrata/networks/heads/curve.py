"""A curve y(t): what all heads of curves share, and a sum of Gaussian kernels with coefficients from the latent.

    y(h, t) = sum_j beta_j(h) k_j(t) + mu1(h) + mu2(t) + mu3(h, t),    k_j(t) = exp( -(t - c_j)^2 / (2 s_j^2) )

t is scaled to [0, 1]. A curve that cannot be negative is z0 + log(1 + exp(5 (y - z0))) / 5 instead, with z0 the
standardised zero: y itself where it is well above. B curves, M points of all curves in one row, J kernels, d latent
width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from crystrata.datasets.batch import Targets
from crystrata.errors import UsageError
from crystrata.graph_settings import GraphSettings
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import Latent
from crystrata.networks.layers import Perceptron
from crystrata.networks.scaling import CoordinateScaling, ErrorKind, Scaling, checked_error, known_errors
from crystrata.tasks import Task

LEAST_WIDTH, FIRST_WIDTH = 1e-3, 0.15
SHARPNESS = 5.0  # of softplus: at 1, what should be zero stays a floor that shifts the centre of a spectrum


class CurveHead(Head):
    """Base of the heads of curves: the loss is the mean over the known points of a curve, summed over the curves.

    Args:
        task: The task.
        width: d.
        graph: Not read: latents suffice.
        error: `mse`, `huber` with delta 1, or `mae`.
    """

    def __init__(self, task: Task, width: int, graph: GraphSettings, error: ErrorKind = "mse") -> None:
        super().__init__(task, width, graph)
        self.error = checked_error(error)
        self.scaling = Scaling(task.transform)
        self.coordinate = CoordinateScaling()

    def count(self, targets: Targets) -> Tensor:
        """Return the number of curves with a known point."""
        return (targets.known_points() > 0).sum()

    def loss(self, output: Tensor, latent: Latent, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return the sum over curves of the mean error of their known points, and the number of curves."""
        errors = known_errors(self.error, output, self.scaling.standardise(targets.values), targets.known)
        points = targets.known_points().clamp(min=1)
        share = points[targets.sample] if targets.is_ragged else points.unsqueeze(1)
        return (errors / share).sum(), self.count(targets)

    def predict(self, output: Tensor, latent: Latent) -> Tensor:
        """Return values in physical units, of the shape of the output."""
        return self.scaling.restore(output)

    @torch.no_grad()
    def fit(self, targets: Targets, fractions: Tensor | None = None) -> None:
        """Fit the scaling of labels and coordinates."""
        self.scaling.fit(targets.values, targets.known)
        if targets.t is not None:
            self.coordinate.fit(targets.t[targets.known])


class KernelHead(CurveHead):
    """Kernel regression on ragged curves; what depends on h alone is computed once per curve.

    `fit` puts the centres at the quantiles of the training coordinates, and the widths to 1 / (J - 1).

    Args:
        task: The task.
        width: d.
        graph: Not read: latents suffice.
        kernels: J, at least 2.
        hidden: Widths of the hidden layers of beta, mu1 and mu3.
        t_hidden: Widths of the hidden layers of mu2.
        learn_centres: Whether the c_j are learned.
        interaction: Whether there is a mu3.
        non_negative: Whether softplus keeps the curve above 0.
        error: `mse`, `huber` with delta 1, or `mae`.

    Raises:
        UsageError: Fewer than two kernels.
    """

    form = "ragged"
    centres: Tensor

    def __init__(
        self,
        task: Task,
        width: int,
        graph: GraphSettings,
        kernels: int = 32,
        hidden: Sequence[int] = (128,),
        t_hidden: Sequence[int] = (32,),
        learn_centres: bool = False,
        interaction: bool = False,
        non_negative: bool = False,
        error: ErrorKind = "mse",
    ) -> None:
        super().__init__(task, width, graph, error)
        if kernels < 2:
            raise UsageError(f"kernel regression takes two kernels or more, not {kernels}")
        self.non_negative = non_negative
        centres = torch.linspace(0, 1, kernels)
        if learn_centres:
            self.centres = nn.Parameter(centres)
        else:
            self.register_buffer("centres", centres)
        self.log_width = nn.Parameter(torch.full((kernels,), math.log(FIRST_WIDTH)))
        self.beta = Perceptron([width, *hidden, kernels])
        self.mu1 = Perceptron([width, *hidden, 1])
        self.mu2 = Perceptron([1, *t_hidden, 1])
        self.mu3 = Perceptron([width + 1, *hidden, 1]) if interaction else None

    def forward(self, latent: Latent, targets: Targets | None = None) -> Tensor:
        """Return standardised values at the points of `targets`, (M,).

        Raises:
            UsageError: No coordinates are given.
        """
        if targets is None or targets.t is None:
            raise UsageError("a curve is predicted at coordinates t: give those that are wanted")
        h, sample = latent.pooled, targets.sample
        t = self.coordinate(targets.t).to(h.dtype).unsqueeze(1)
        shared = torch.cat([self.beta(h), self.mu1(h)], dim=1).index_select(0, sample)  # (M, J + 1)
        y = (shared[:, :-1] * self.kernels(t)).sum(1) + shared[:, -1] + self.mu2(t).squeeze(1)
        if self.mu3 is not None:
            y = y + self.mu3(torch.cat([h.index_select(0, sample), t], dim=1)).squeeze(1)
        if not self.non_negative:
            return y
        zero = self.scaling.standardise(torch.zeros_like(y))
        return zero + functional.softplus(y - zero, SHARPNESS)

    def kernels(self, t: Tensor) -> Tensor:
        """Return k_j, (M, J), at scaled coordinates (M, 1)."""
        s = self.log_width.exp().clamp(min=LEAST_WIDTH)
        return torch.exp(-0.5 * ((t - self.centres) / s).square())

    @torch.no_grad()
    def fit(self, targets: Targets, fractions: Tensor | None = None) -> None:
        """Fit the scaling of labels and coordinates; place the kernels."""
        super().fit(targets, fractions)
        if targets.t is None or not bool(targets.known.any()):
            return
        t = self.coordinate(targets.t[targets.known].double()).sort().values
        place = torch.linspace(0, len(t) - 1, len(self.centres), dtype=torch.double).to(t.device)
        self.centres.copy_(t[place.floor().long()].lerp(t[place.ceil().long()], place.frac()))
        self.log_width.fill_(-math.log(len(self.centres) - 1))
