"""Encoders of compositions, and heads on any latents, as test cases, with labels of every form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from crystrata.datasets.batch import Targets
from crystrata.networks.encoders import build_composition_encoder
from crystrata.networks.encoders.encoder import CompositionEncoder
from crystrata.networks.heads import build_head, head_class
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import Latent
from crystrata.tasks import Task

SAMPLES, WIDTH, DESCRIPTOR = 6, 8, 12
LENGTHS = torch.tensor([4, 1, 7, 0, 3, 5])
"""Points of the curves: a single one and none among them."""


@dataclass(frozen=True)
class TaskCase:
    """One kind of task with one choice of settings of its head, of which `transform` is the task's."""

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.kind, *(f"{name}={value}" for name, value in self.settings.items())])

    @property
    def task(self) -> Task:
        """The task."""
        head = {name: value for name, value in self.settings.items() if name not in ("transform", "input_dim")}
        return Task(
            "made",
            self.kind,  # type: ignore[arg-type]
            columns=() if self.kind == "autoencoder" else ("label",),
            transform=self.settings.get("transform", "identity"),
            classes=("a", "b", "c") if self.kind == "classification" else (),
            t_column="t" if self.form != "fixed" else None,
            head=head,
        )

    @property
    def form(self) -> str:
        """Form of the targets that the head reads."""
        return head_class(self.kind, self.settings.get("subtype", "")).form

    def build(self, seed: int = 0, *, fitted: bool = True) -> Head:
        """Make the head in double precision and in evaluation mode, fitted on `labels`."""
        torch.manual_seed(seed)
        head = build_head(self.task, WIDTH, input_width=self.settings.get("input_dim")).double().eval()
        if fitted:
            head.fit(self.labels())
        return head

    def labels(self) -> Targets:
        """Labels of six samples, about a third unknown."""
        make = torch.Generator().manual_seed(3)
        form = self.form
        if form != "fixed":
            return self._curves(make) if form == "ragged" else self._curves(make).padded()
        if self.kind == "classification":
            return Targets(torch.tensor([2, -1, 0, 1, -1, 2]), torch.tensor([1, 0, 1, 1, 0, 1]).bool())
        components = self.settings.get("components", self.settings.get("input_dim"))
        shape = (SAMPLES,) if components is None else (SAMPLES, components)
        known = torch.rand(shape, generator=make) < 0.7
        known[1] = False
        return Targets(torch.rand(shape, generator=make, dtype=torch.double) * 3 + 0.2, known)

    def _curves(self, make: torch.Generator) -> Targets:
        points = int(LENGTHS.sum())
        values = torch.rand(points, generator=make, dtype=torch.double) * 3 + 0.2
        t = torch.rand(points, generator=make, dtype=torch.double) * 700 + 300
        known = torch.rand(points, generator=make) < 0.7
        known[4] = False  # the single point of the second curve
        return Targets(values, known, None if self.settings.get("d_in") else t, LENGTHS)


SMALL_ATTENTION = {"d_model": 8, "nhead": 2}
SQUARES = {"error": "mse", "centre": "mean", "norm": "layer", "activation": "leaky_relu"}
TASK_CASES = [
    TaskCase("scalar"),
    TaskCase("scalar", SQUARES),
    TaskCase("scalar", {**SQUARES, "transform": "log1p", "hidden": (6, 5)}),
    TaskCase("vector", {**SQUARES, "components": 3, "error": "huber"}),
    TaskCase("vector", {"components": 2, "transform": "asinh", "hidden": ()}),
    TaskCase("classification"),
    TaskCase("classification", {"class_weights": (0.2, 3.0, 0.7)}),
    TaskCase("curve", {"kernels": 7}),
    TaskCase("curve", {"kernels": 5, "interaction": True, "learn_centres": True, "error": "huber"}),
    TaskCase("curve", {"kernels": 7, "non_negative": True}),
    TaskCase("curve", {"kernels": 7, "non_negative": True, "error": "mae", "transform": "log1p"}),
    TaskCase("sequence", {"subtype": "rnn", "hidden": 6}),
    TaskCase("sequence", {"subtype": "rnn", "hidden": 6, "cell": "lstm", "d_in": WIDTH}),
    TaskCase("sequence", {"subtype": "vec", "seq_len": 9}),
    TaskCase("sequence", {"subtype": "tcn", "hidden": 6}),
    TaskCase("sequence", {"subtype": "tcn", "hidden": 6, "d_in": WIDTH}),
    TaskCase("sequence", {"subtype": "transformer", **SMALL_ATTENTION}),
    TaskCase("sequence", {"subtype": "transformer", **SMALL_ATTENTION, "d_in": WIDTH}),
    TaskCase("sequence", {"subtype": "hybrid", **SMALL_ATTENTION}),
    TaskCase("autoencoder", {"input_dim": DESCRIPTOR}),
    TaskCase("autoencoder", {"input_dim": DESCRIPTOR, "non_negative": True}),
]
"""Every kind; the sequences with `d_in` have no steps."""


@dataclass(frozen=True)
class DescriptorCase:
    """One row of `COMPOSITION_ENCODERS` with one choice of settings."""

    name: str
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{name}={value}" for name, value in self.settings.items())])

    def build(self, seed: int = 0) -> CompositionEncoder:
        """Make the encoder in double precision and in evaluation mode."""
        torch.manual_seed(seed)
        return build_composition_encoder(self.name, self.settings).double().eval()


SMALL_TOKENS = {"input_dim": DESCRIPTOR, "d_model": WIDTH, "num_layers": 2, "nhead": 2}
DESCRIPTOR_CASES = [
    DescriptorCase("mlp", {"hidden_dims": (DESCRIPTOR, 10, WIDTH)}),
    DescriptorCase("mlp", {"hidden_dims": (DESCRIPTOR, 10, 10, WIDTH), "norm": "batch", "residual": True}),
    DescriptorCase("mlp", {"hidden_dims": (DESCRIPTOR, 10, WIDTH), "norm": "none", "dropout": 0.5}),
    DescriptorCase("transformer", SMALL_TOKENS),
    DescriptorCase("transformer", {**SMALL_TOKENS, "use_cls_token": False, "group": 4}),
    DescriptorCase("transformer", {**SMALL_TOKENS, "apply_layer_norm": False, "dim_feedforward": 10}),
]


def rows(targets: Targets, index: Tensor) -> Targets:
    """The labels of some samples, in any form."""
    if targets.lengths is None:
        return Targets(targets.values[index], targets.known[index])
    place = index
    if targets.is_ragged:
        place = torch.cat([torch.nonzero(targets.sample == row).flatten() for row in index.tolist()])
    t = None if targets.t is None else targets.t[place]
    return Targets(targets.values[place], targets.known[place], t, targets.lengths[index])


def output_of(head: Head, h: Tensor, labels: Targets) -> Tensor:
    """What a head says of latents, (B, d)."""
    return head(Latent(h), labels)


def loss_of(head: Head, h: Tensor, labels: Targets) -> tuple[Tensor, Tensor]:
    """Its loss sum and count."""
    return head.loss(output_of(head, h, labels), Latent(h), labels)


def prediction_of(head: Head, h: Tensor, labels: Targets) -> Tensor:
    """Its prediction."""
    return head.predict(output_of(head, h, labels), Latent(h))


def latents(seed: int = 7) -> Tensor:
    """Latents of the six samples, (6, 8)."""
    return torch.randn(SAMPLES, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def descriptors(seed: int = 8) -> Tensor:
    """Descriptors of the six samples, (6, 12)."""
    return torch.rand(SAMPLES, DESCRIPTOR, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
