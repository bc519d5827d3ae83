"""From labels in physical units to numbers of order one and back, inside the model. B materials, k components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from crystrata.elements import MAX_ATOMIC_NUMBER
from crystrata.errors import InputError, unknown_name
from crystrata.tasks import TRANSFORMS, Transform

Centre = Literal["median", "mean"]
CENTRES: tuple[Centre, ...] = ("median", "mean")
CLIP = 5.0  # of the standardised targets of log1p, whose columns have long tails
_LARGEST_EXPONENT = 80.0  # exp of it is finite in float32
_SMALLEST_SPREAD = 1e-6  # of the location: labels that spread less are all the same
_RIDGE = 1.0  # shrinks the coefficient of an element seen in few materials


class Scaling(nn.Module):
    """z = (f(y) - w . x - location) / scale, with f the identity, asinh(y / s) or log(1 + y), by component.

    Location and scale are the median of f(y) and the mean deviation from it, for heads that learn by absolute error (a
    monotone f keeps the median, so that the inverse is the median of y), or mean and standard deviation, for those that
    learn by squares. w is a ridge on atomic fractions x, for values that are a mean over atoms. With log1p, for columns
    that are positive and long-tailed, targets are cut to +/- 5 and predictions are not negative.

    Args:
        transform: f.
        components: k; None for one number.
        centre: `median` or `mean`.
        ridge: Whether the composition carries the bulk of the value.

    Raises:
        UsageError: Transform or centre is unknown.
    """

    location: Tensor
    scale: Tensor
    transform_scale: Tensor
    ridge: Tensor

    def __init__(
        self,
        transform: Transform = "identity",
        components: int | None = None,
        centre: Centre = "mean",
        *,
        ridge: bool = False,
    ) -> None:
        super().__init__()
        if transform not in TRANSFORMS:
            raise unknown_name("transform", transform, TRANSFORMS)
        if centre not in CENTRES:
            raise unknown_name("centre", centre, CENTRES)
        self.transform, self.centre, self.uses_ridge = transform, centre, ridge
        shape = () if components is None else (components,)
        self.register_buffer("location", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("transform_scale", torch.ones(shape))
        if ridge:
            self.register_buffer("ridge", torch.zeros(MAX_ATOMIC_NUMBER))

    def standardise(self, value: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Return z of physical values, (...) or (..., k); with a ridge (B,), at atomic fractions (B, 103)."""
        z = (self._transformed(value) - self._of_composition(fractions) - self.location) / self.scale
        return z.clamp(-CLIP, CLIP) if self.transform == "log1p" else z

    def restore(self, z: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Return physical values of network values z; shapes as in `standardise`."""
        value = z * self.scale + self.location + self._of_composition(fractions)
        if self.transform == "asinh":
            return self.transform_scale * torch.sinh(value.clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT))
        return torch.expm1(value.clamp(0, _LARGEST_EXPONENT)) if self.transform == "log1p" else value

    def _of_composition(self, fractions: Tensor | None) -> Tensor | float:
        return fractions @ self.ridge if self.uses_ridge and fractions is not None else 0.0

    def _transformed(self, value: Tensor) -> Tensor:
        if self.transform == "asinh":
            return torch.asinh(value / self.transform_scale)
        return torch.log1p(value.clamp(min=0.0)) if self.transform == "log1p" else value

    @torch.no_grad()
    def fit(self, value: Tensor, known: Tensor, fractions: Tensor | None = None) -> None:
        """Fit on training labels (...) or (..., k) in physical units; a component without a known label keeps its own.

        Args:
            value: Labels; anything where unknown.
            known: True where a label is known, of the same shape.
            fractions: Atomic fractions of each label, (B, 103), for a ridge.

        Raises:
            InputError: A label is negative and the transform is log1p.
        """
        if self.transform == "log1p" and bool((known & (value < 0)).any()):
            raise InputError("log1p is for labels from 0 on, and some are negative: take the transform asinh")
        columns = value.double().reshape(-1, self.location.numel())
        masks = known.reshape(columns.shape)
        for k, column in enumerate(columns.unbind(1)):
            labels, mask = column[masks[:, k]], masks[:, k]
            if len(labels):
                self._fit_component(k, labels, None if fractions is None else fractions[mask])

    def _fit_component(self, k: int, labels: Tensor, fractions: Tensor | None) -> None:
        if self.transform == "asinh":
            sizes = labels.abs()[labels != 0]
            self.transform_scale.view(-1)[k] = sizes.median() if len(sizes) else 1.0
            labels = torch.asinh(labels / self.transform_scale.view(-1)[k])
        elif self.transform == "log1p":
            labels = torch.log1p(labels)
        if self.uses_ridge and fractions is not None:
            labels = labels - self._fit_ridge(labels, fractions.double())
        if self.centre == "median":
            location = labels.median()
            spread = (labels - location).abs().mean()
            least = torch.tensor(_SMALLEST_SPREAD)
        else:
            location, spread = labels.mean(), labels.std(correction=0)
            least = _SMALLEST_SPREAD * location.abs()
        self.location.view(-1)[k] = location
        self.scale.view(-1)[k] = spread if spread > least and spread > 0 else 1.0

    def _fit_ridge(self, labels: Tensor, fractions: Tensor) -> Tensor:
        """Fit w; return w . x of each label."""
        normal = fractions.T @ fractions + _RIDGE * torch.eye(fractions.shape[1], dtype=torch.double)
        ridge = torch.linalg.solve(normal, fractions.T @ (labels - labels.mean()))
        self.ridge.copy_(ridge)
        return fractions @ ridge


class CoordinateScaling(nn.Module):
    """t -> (t - lower) / (upper - lower), with the limits of the training part; [0, 1] until fitted."""

    lower: Tensor
    upper: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lower", torch.zeros(()))
        self.register_buffer("upper", torch.ones(()))

    def forward(self, t: Tensor) -> Tensor:
        """Return scaled coordinates of any shape, 0 to 1 within the limits."""
        return (t - self.lower) / (self.upper - self.lower)

    @torch.no_grad()
    def fit(self, t: Tensor) -> None:
        """Take the limits of training coordinates (n,); one coordinate alone becomes 0."""
        if len(t):
            self.lower.copy_(t.min())
            self.upper.copy_(t.max() if t.max() > t.min() else t.min() + 1)


ErrorKind = Literal["mse", "huber", "mae"]
_ERRORS: dict[str, Callable[..., Tensor]] = {
    "mse": nn.functional.mse_loss,
    "huber": nn.functional.huber_loss,
    "mae": nn.functional.l1_loss,
}


def checked_error(kind: ErrorKind) -> ErrorKind:
    """Return the kind of error.

    Raises:
        UsageError: It is unknown.
    """
    if kind not in _ERRORS:
        raise unknown_name("error", kind, _ERRORS)
    return kind


def known_errors(kind: ErrorKind, output: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """Return the error of each standardised label; 0 without gradient where it is unknown."""
    return _ERRORS[kind](output.where(known, 0.0), wanted.where(known, 0.0), reduction="none")
