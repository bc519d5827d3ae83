"""Encoders: from a batch of crystals to latents. A new encoder is one file and one row of `ENCODERS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crystrata.errors import unknown_name
from crystrata.neighbourhood import GraphSettings
from crystrata.networks.encoders.cgcnn import CGCNNEncoder
from crystrata.networks.encoders.e3nn import E3NNEncoder
from crystrata.networks.encoders.encoder import Encoder
from crystrata.networks.encoders.plain_e3nn import PlainE3NNEncoder

ENCODERS: dict[str, type[Encoder]] = {
    "e3nn": E3NNEncoder,
    "cgcnn": CGCNNEncoder,
    "plain_e3nn": PlainE3NNEncoder,
}
"""Name -> class; every row passes the contract suite in tests/contracts."""


def build_encoder(name: str, graph: GraphSettings, settings: Mapping[str, Any]) -> Encoder:
    """Make an encoder by name.

    Raises:
        UsageError: The name or a setting is unknown.
    """
    if name not in ENCODERS:
        raise unknown_name("encoder", name, ENCODERS)
    known = ENCODERS[name].setting_names()
    for setting in settings:
        if setting not in known:
            raise unknown_name(f"setting of encoder {name}", setting, known)
    return ENCODERS[name](graph, **settings)
