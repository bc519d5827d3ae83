"""Encoders: from a batch of crystals, or from descriptors, to latents.

A new encoder of crystals is one file here and one row of `tiers.ENCODERS`; one of descriptors is one file and one row
of `DESCRIPTOR_ENCODERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, get_type_hints

from crystrata.errors import unknown_name
from crystrata.graph_settings import GraphSettings
from crystrata.networks.encoders.constant import ConstantEncoder
from crystrata.networks.encoders.descriptor import DescriptorEncoder
from crystrata.networks.encoders.encoder import Encoder
from crystrata.networks.encoders.mlp import MLPEncoder
from crystrata.networks.encoders.transformer import TransformerEncoder
from crystrata.presets import ENCODERS
from crystrata.settings import require_kind

DESCRIPTOR_ENCODERS: dict[str, type[DescriptorEncoder]] = {
    "mlp": MLPEncoder,
    "transformer": TransformerEncoder,
    "none": ConstantEncoder,
}
"""Name -> class; every row passes the contract suite in tests/contracts. `none`: the crystal alone is read."""


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
        UsageError: The name or a setting is unknown, or a setting is of another type.
    """
    encoder = encoder_class(name)
    _require_settings(name, encoder, settings)
    return encoder(graph, **settings)


def build_descriptor_encoder(name: str, settings: Mapping[str, Any]) -> DescriptorEncoder:
    """Make an encoder of descriptors by name.

    Raises:
        UsageError: The name or a setting is unknown, or a setting does not fit.
    """
    if name not in DESCRIPTOR_ENCODERS:
        raise unknown_name("encoder", name, DESCRIPTOR_ENCODERS)
    encoder = DESCRIPTOR_ENCODERS[name]
    _require_settings(name, encoder, settings)
    return encoder(**settings)


def _require_settings(name: str, encoder: type[Encoder] | type[DescriptorEncoder], settings: Mapping[str, Any]) -> None:
    """Refuse settings that the constructor does not know, or of another kind than it takes."""
    kinds, known = get_type_hints(encoder.__init__), encoder.setting_names()
    for setting, value in settings.items():
        if setting not in known:
            raise unknown_name(f"setting of encoder {name}", setting, known)
        require_kind(value, kinds[setting], f"setting {setting} of encoder {name}")
