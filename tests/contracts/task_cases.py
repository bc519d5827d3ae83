"""The rows of the tables of descriptor encoders and task heads as test cases, with labels of every form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from crystrata.datasets.batch import Targets
from crystrata.networks.encoders import build_composition_encoder
from crystrata.networks.encoders.encoder import CompositionEncoder
from crystrata.networks.heads import TASK_HEADS, build_task_head
from crystrata.networks.heads.head import TaskHead

SAMPLES, WIDTH, DESCRIPTOR = 6, 8, 12
LENGTHS = torch.tensor([4, 1, 7, 0, 3, 5])
"""Points of the curves: a single one and none among them."""


@dataclass(frozen=True)
class TaskCase:
    """One row of `TASK_HEADS` with one choice of settings."""

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.kind, *(f"{name}={value}" for name, value in self.settings.items())])

    def build(self, seed: int = 0, *, fitted: bool = True) -> TaskHead:
        """Make the head in double precision and in evaluation mode, fitted on `labels`."""
        torch.manual_seed(seed)
        head = build_task_head(self.kind, WIDTH, self.settings).double().eval()
        if fitted:
            head.fit(self.labels())
        return head

    def labels(self) -> Targets:
        """Labels of six samples, about a third unknown."""
        make = torch.Generator().manual_seed(3)
        form = TASK_HEADS[self.kind].form
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
TASK_CASES = [
    TaskCase("regression"),
    TaskCase("regression", {"transform": "log1p", "hidden": (6, 5)}),
    TaskCase("regression", {"components": 3, "error": "huber"}),
    TaskCase("regression", {"components": 2, "transform": "asinh", "hidden": ()}),
    TaskCase("regression", {"error": "mae"}),
    TaskCase("classification", {"classes": 3}),
    TaskCase("classification", {"classes": 3, "class_weights": (0.2, 3.0, 0.7)}),
    TaskCase("kernel", {"kernels": 7}),
    TaskCase("kernel", {"kernels": 5, "interaction": True, "learn_centres": True, "error": "huber"}),
    TaskCase("kernel", {"kernels": 7, "non_negative": True}),
    TaskCase("kernel", {"kernels": 7, "non_negative": True, "error": "mae", "transform": "log1p"}),
    TaskCase("rnn", {"hidden": 6}),
    TaskCase("rnn", {"hidden": 6, "cell": "lstm", "d_in": WIDTH}),
    TaskCase("vec", {"seq_len": 9}),
    TaskCase("tcn", {"hidden": 6}),
    TaskCase("tcn", {"hidden": 6, "d_in": WIDTH}),
    TaskCase("transformer", SMALL_ATTENTION),
    TaskCase("transformer", {**SMALL_ATTENTION, "d_in": WIDTH}),
    TaskCase("hybrid", SMALL_ATTENTION),
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
    DescriptorCase("none", {"input_dim": DESCRIPTOR, "latent_width": WIDTH}),
    DescriptorCase("transformer", SMALL_TOKENS),
    DescriptorCase("transformer", {**SMALL_TOKENS, "use_cls_token": False, "group": 4}),
    DescriptorCase("transformer", {**SMALL_TOKENS, "apply_layer_norm": False, "dim_feedforward": 10}),
]


def latents(seed: int = 7) -> Tensor:
    """Latents of the six samples, (6, 8)."""
    return torch.randn(SAMPLES, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def descriptors(seed: int = 8) -> Tensor:
    """Descriptors of the six samples, (6, 12)."""
    return torch.rand(SAMPLES, DESCRIPTOR, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
