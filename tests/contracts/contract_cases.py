"""Encoders and heads of crystals as test cases: a new row is tested without new test code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, get_args

import torch
from known_crystals import CRYSTALS, SETTINGS, batch_of

from crystrata.datasets.batch import Targets
from crystrata.jarvis_properties import PROPERTIES, get_property
from crystrata.networks.angles import AngleForm
from crystrata.networks.encoders import build_encoder, encoder_class
from crystrata.networks.encoders.encoder import StructureEncoder
from crystrata.networks.heads import build_head
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import Latent
from crystrata.presets import ENCODERS
from crystrata.tasks import KINDS, Task

SMALL = {"channels": 16, "layers": 2, "radial_hidden": 16}
"""Sizes that make an encoder fast; each encoder takes those that it knows."""

RECORDS = ("band_gap", "dielectric", "formation_energy")
"""Plain with a bound, transformed with a bound, with a composition baseline: the kinds of scaling a head meets."""

LATENT_WIDTH, HIDDEN = 12, 24


@dataclass(frozen=True)
class EncoderCase:
    """One row of `ENCODERS`, with one of its forms of angles where it has any."""

    name: str
    settings: Mapping[str, Any]

    def build(self, seed: int = 0) -> StructureEncoder:
        """Make the encoder, its weights a function of the seed."""
        torch.manual_seed(seed)
        return build_encoder(self.name, SETTINGS, self.settings)

    @property
    def stored_tolerance(self) -> float:
        """Relative error from the rounding of the store: 6e-7 seen with float32 vectors, 2e-5 with 16-bit cosines."""
        return 2e-4 if self.settings.get("angles") == "cached" else 1e-5

    def __str__(self) -> str:
        return f"{self.name}-{self.settings['angles']}" if "angles" in self.settings else self.name


def encoder_cases() -> list[EncoderCase]:
    """Every row of `ENCODERS` in small, in every form of angles that it offers."""
    cases = []
    for name in ENCODERS:
        known = encoder_class(name).setting_names()
        small = {setting: value for setting, value in SMALL.items() if setting in known}
        forms = [{"angles": form} for form in get_args(AngleForm)] if "angles" in known else [{}]
        cases += [EncoderCase(name, {**small, **form}) for form in forms]
    return cases


@dataclass(frozen=True)
class HeadCase:
    """One kind of head on one property."""

    kind: str
    record: Task

    def __str__(self) -> str:
        return f"{self.kind}-{self.record.name}"

    def build(self, seed: int = 0, *, fitted: bool = True) -> Head:
        """Make the head, its weights a function of the seed; fit its scaling on the labels of `labels_of`."""
        torch.manual_seed(seed)
        head = build_head(replace(self.record, head={"hidden": (HIDDEN,)}), LATENT_WIDTH, SETTINGS)
        if fitted:
            head.fit(targets_of(labels_of(self.record)), crystal_latents().fractions)
        return head


def head_cases() -> list[HeadCase]:
    """Every kind on the properties that may have it, the scalar one on each of `RECORDS`."""
    return [
        HeadCase(kind, get_property(name).of_kind(kind))
        for kind in KINDS
        for name in (RECORDS if kind == "scalar" else PROPERTIES)
        if kind in get_property(name).kinds
    ]


@cache
def crystal_latents() -> Latent:
    """Latents of the eight fixed crystals, (8, d), as an encoder would hand them over."""
    batch = batch_of(CRYSTALS)
    atoms = torch.randn(len(batch.numbers), LATENT_WIDTH, generator=torch.Generator().manual_seed(5))
    return Latent.of_crystals(atoms, batch)


def targets_of(labels: torch.Tensor, known: torch.Tensor | None = None) -> Targets:
    """Labels of one number, known where nothing else is said."""
    return Targets(labels, torch.ones(len(labels), dtype=torch.bool) if known is None else known)


def labels_of(record: Task) -> torch.Tensor:
    """Plausible labels of the eight fixed crystals, (8,), above the property's bound."""
    values = torch.tensor([1.1, 5.2, 1.4, 6.1, 3.3, 0.7, 0.2, 0.1])
    return 10 * values + (-20.0 if record.lower is None else record.lower)
