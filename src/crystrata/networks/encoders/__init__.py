"""Encoders: from crystals, or from descriptors of compositions, to latents.

A new encoder is one file here and one row of `presets.ENCODERS` or `COMPOSITION_ENCODERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from crystrata.errors import unknown_name
from crystrata.graph_settings import GraphSettings
from crystrata.networks.encoders.composition import MLPEncoder, TransformerEncoder
from crystrata.networks.encoders.encoder import CompositionEncoder, StructureEncoder
from crystrata.presets import ENCODERS
from crystrata.settings import check_arguments

COMPOSITION_ENCODERS: dict[str, type[CompositionEncoder]] = {"mlp": MLPEncoder, "transformer": TransformerEncoder}
"""Name -> class; every row passes the contract suite in tests/contracts."""


def encoder_class(name: str) -> type[StructureEncoder]:
    """Return the class of an encoder of crystals.

    Raises:
        UsageError: No encoder has that name.
    """
    if name not in ENCODERS:
        raise unknown_name("encoder", name, ENCODERS)
    row = ENCODERS[name]
    found: type[StructureEncoder] = getattr(import_module(f"{__name__}.{row.module}"), row.name)
    return found


def build_encoder(name: str, graph: GraphSettings, settings: Mapping[str, Any]) -> StructureEncoder:
    """Make an encoder of crystals by name.

    Raises:
        UsageError: The name or a setting is unknown, or a setting is of another type.
    """
    encoder = encoder_class(name)
    check_arguments(encoder, settings, encoder.setting_names(), f"encoder {name}")
    return encoder(graph, **settings)


def build_composition_encoder(name: str, settings: Mapping[str, Any]) -> CompositionEncoder:
    """Make an encoder of descriptors by name.

    Raises:
        UsageError: The name or a setting is unknown, or a setting does not fit.
    """
    if name not in COMPOSITION_ENCODERS:
        raise unknown_name("encoder", name, COMPOSITION_ENCODERS)
    encoder = COMPOSITION_ENCODERS[name]
    check_arguments(encoder, settings, encoder.setting_names(), f"encoder {name}")
    return encoder(**settings)
