"""Encoders of crystals and of compositions as test cases: a new row is tested without new test code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from head_cases import DESCRIPTOR, MATERIALS, WIDTH
from known_crystals import SETTINGS
from torch import Tensor

from crystrata.networks.edges import AngleForm
from crystrata.networks.encoders import (
    COMPOSITION_ENCODERS,
    build_composition_encoder,
    build_encoder,
    encoder_class,
)
from crystrata.networks.encoders.encoder import CompositionEncoder, StructureEncoder
from crystrata.presets import ENCODERS

SMALL = {"channels": 16, "layers": 2, "radial_hidden": 16}
"""Sizes that make an encoder fast; each encoder takes those that it knows."""


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


SMALL_DESCRIPTOR = {
    "hidden_dims": (DESCRIPTOR, 10, WIDTH), "input_dim": DESCRIPTOR, "d_model": WIDTH, "num_layers": 2, "nhead": 2,
}  # fmt: skip
"""Sizes that make an encoder of descriptors fast; each takes those that it knows."""

DESCRIPTOR_VARIANTS: dict[str, list[dict[str, Any]]] = {
    "mlp": [
        {"hidden_dims": (DESCRIPTOR, 10, 10, WIDTH), "norm": "batch", "residual": True},
        {"norm": "none", "dropout": 0.5},
    ],
    "transformer": [
        {"use_cls_token": False, "group": 4},
        {"apply_layer_norm": False, "dim_feedforward": 10},
    ],
}


def descriptor_cases() -> list[DescriptorCase]:
    """Every row of `COMPOSITION_ENCODERS` in small, and what settings change in it."""
    cases = []
    for name, encoder in COMPOSITION_ENCODERS.items():
        small = {
            setting: SMALL_DESCRIPTOR[setting] for setting in SMALL_DESCRIPTOR if setting in encoder.setting_names()
        }
        cases += [DescriptorCase(name, {**small, **more}) for more in ({}, *DESCRIPTOR_VARIANTS.get(name, []))]
    return cases


def descriptors(seed: int = 8) -> Tensor:
    """Descriptors of six materials, (6, 12)."""
    return torch.rand(MATERIALS, DESCRIPTOR, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
