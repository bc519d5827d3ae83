"""Scaling of the labels and coordinates of tasks, inside the model. n labels, k components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from crystrata.errors import InputError, unknown_name

TaskTransform = Literal["identity", "asinh", "log1p"]
TRANSFORMS = ("identity", "asinh", "log1p")
CLIP = 5.0  # of the standardised targets of log1p, whose columns have long tails
_LARGEST_EXPONENT = 80.0  # exp of it is finite in float32
_SMALLEST_SPREAD = 1e-6  # of the location: labels that spread less are all the same


class TaskScaling(nn.Module):
    """z = (f(y) - mean) / standard deviation, with f the identity, asinh(y / s) or log(1 + y), by component.

    With log1p, for columns that are positive and long-tailed, targets are clipped to +/- 5 and predictions are not
    negative.

    Args:
        transform: `identity`, `asinh` or `log1p`.
        components: k; None for one number.

    Raises:
        UsageError: The transform is unknown.
    """

    location: Tensor
    scale: Tensor
    transform_scale: Tensor

    def __init__(self, transform: TaskTransform = "identity", components: int | None = None) -> None:
        super().__init__()
        if transform not in TRANSFORMS:
            raise unknown_name("transform", transform, TRANSFORMS)
        self.transform = transform
        shape = () if components is None else (components,)
        self.register_buffer("location", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("transform_scale", torch.ones(shape))

    def standardise(self, value: Tensor) -> Tensor:
        """Return z of physical values, (...) or (..., k)."""
        z = (self._transformed(value) - self.location) / self.scale
        return z.clamp(-CLIP, CLIP) if self.transform == "log1p" else z

    def restore(self, z: Tensor) -> Tensor:
        """Return physical values of network values z, (...) or (..., k)."""
        value = z * self.scale + self.location
        if self.transform == "asinh":
            return self.transform_scale * torch.sinh(value.clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT))
        return torch.expm1(value.clamp(0, _LARGEST_EXPONENT)) if self.transform == "log1p" else value

    def _transformed(self, value: Tensor) -> Tensor:
        if self.transform == "asinh":
            return torch.asinh(value / self.transform_scale)
        return torch.log1p(value.clamp(min=0.0)) if self.transform == "log1p" else value

    @torch.no_grad()
    def fit(self, value: Tensor, known: Tensor) -> None:
        """Fit on training labels (...) or (..., k) in physical units; a component without a known label keeps its own.

        Args:
            value: Labels; anything where unknown.
            known: True where a label is known, of the same shape.

        Raises:
            InputError: A label is negative and the transform is log1p.
        """
        if self.transform == "log1p" and bool((known & (value < 0)).any()):
            raise InputError("log1p is for labels from 0 on, and some are negative: take the transform asinh")
        columns = value.double().reshape(-1, self.location.numel())
        for k, column in enumerate(columns.unbind(1)):
            labels = column[known.reshape(columns.shape)[:, k]]
            if len(labels):
                self._fit_component(k, labels)

    def _fit_component(self, k: int, labels: Tensor) -> None:
        if self.transform == "asinh":
            sizes = labels.abs()[labels != 0]
            self.transform_scale.view(-1)[k] = sizes.median() if len(sizes) else 1.0
            labels = torch.asinh(labels / self.transform_scale.view(-1)[k])
        elif self.transform == "log1p":
            labels = torch.log1p(labels)
        location, spread = labels.mean(), labels.std(correction=0)
        self.location.view(-1)[k] = location
        self.scale.view(-1)[k] = spread if spread > _SMALLEST_SPREAD * location.abs() and spread > 0 else 1.0


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
