"""A curve y(t) as a sum of Gaussian kernels whose coefficients follow from the latent.

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

from crystrata.datasets.task_targets import TaskTargets
from crystrata.errors import UsageError
from crystrata.networks.heads.curve import CurveHead
from crystrata.networks.layers import Perceptron
from crystrata.networks.task_scaling import ErrorKind, TaskTransform

LEAST_WIDTH, FIRST_WIDTH = 1e-3, 0.15
SHARPNESS = 5.0  # of softplus: at 1, what should be zero stays a floor that shifts the centre of a spectrum


class KernelHead(CurveHead):
    """Kernel regression on ragged curves; what depends on h alone is computed once per curve.

    `fit` puts the centres at the quantiles of the training coordinates, and the widths to 1 / (J - 1).

    Args:
        width: d.
        kernels: J, at least 2.
        hidden: Widths of the hidden layers of beta, mu1 and mu3.
        t_hidden: Widths of the hidden layers of mu2.
        learn_centres: Whether the c_j are learned.
        interaction: Whether there is a mu3.
        non_negative: Whether softplus keeps the curve above 0.
        transform: Of the labels: `identity`, `asinh` or `log1p`.
        error: `mse`, `huber` with delta 1, or `mae`.

    Raises:
        UsageError: Fewer than two kernels.
    """

    form = "ragged"
    centres: Tensor

    def __init__(
        self,
        width: int,
        kernels: int = 32,
        hidden: Sequence[int] = (128,),
        t_hidden: Sequence[int] = (32,),
        learn_centres: bool = False,
        interaction: bool = False,
        non_negative: bool = False,
        transform: TaskTransform = "identity",
        error: ErrorKind = "mse",
    ) -> None:
        super().__init__(width, transform, error)
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

    def forward(self, latent: Tensor, labels: TaskTargets | None = None) -> Tensor:
        """Return standardised values at the points of `labels`, (M,).

        Raises:
            UsageError: No coordinates are given.
        """
        if labels is None or labels.t is None:
            raise UsageError("a curve is predicted at coordinates t: give those that are wanted")
        t, sample = self.coordinate(labels.t).to(latent.dtype).unsqueeze(1), labels.sample
        shared = torch.cat([self.beta(latent), self.mu1(latent)], dim=1).index_select(0, sample)  # (M, J + 1)
        y = (shared[:, :-1] * self.kernels(t)).sum(1) + shared[:, -1] + self.mu2(t).squeeze(1)
        if self.mu3 is not None:
            y = y + self.mu3(torch.cat([latent.index_select(0, sample), t], dim=1)).squeeze(1)
        if not self.non_negative:
            return y
        zero = self.scaling.standardise(torch.zeros_like(y))
        return zero + functional.softplus(y - zero, SHARPNESS)

    def kernels(self, t: Tensor) -> Tensor:
        """Return k_j, (M, J), at scaled coordinates (M, 1)."""
        s = self.log_width.exp().clamp(min=LEAST_WIDTH)
        return torch.exp(-0.5 * ((t - self.centres) / s).square())

    @torch.no_grad()
    def fit(self, labels: TaskTargets) -> None:
        """Fit the scaling of labels and coordinates; place the kernels."""
        super().fit(labels)
        if labels.t is None or not bool(labels.known.any()):
            return
        t = self.coordinate(labels.t[labels.known].double()).sort().values
        place = torch.linspace(0, len(t) - 1, len(self.centres), dtype=torch.double).to(t.device)
        self.centres.copy_(t[place.floor().long()].lerp(t[place.ceil().long()], place.frac()))
        self.log_width.fill_(-math.log(len(self.centres) - 1))
