"""Encoders: from a batch of crystals to latents. A new encoder is one file here and one row of `tiers.ENCODERS`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from crystrata.errors import unknown_name
from crystrata.neighbourhood import GraphSettings
from crystrata.networks.encoders.encoder import Encoder
from crystrata.tiers import ENCODERS


def encoder_class(name: str) -> type[Encoder]:
    """Return the class of an encoder.

    Raises:
        UsageError: No encoder has that name.
    """
    if name not in ENCODERS:
        raise unknown_name("encoder", name, ENCODERS)
    row = ENCODERS[name]
    found: type[Encoder] = getattr(import_module(f"{__name__}.{row.module}"), row.name)
    return found


def build_encoder(name: str, graph: GraphSettings, settings: Mapping[str, Any]) -> Encoder:
    """Make an encoder by name.

    Raises:
        UsageError: The name or a setting is unknown.
    """
    encoder = encoder_class(name)
    known = encoder.setting_names()
    for setting in settings:
        if setting not in known:
            raise unknown_name(f"setting of encoder {name}", setting, known)
    return encoder(graph, **settings)
