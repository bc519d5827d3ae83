"""A network in a file: configuration, weights and what it was trained on, as tensors and plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from crystrata.errors import ModelError
from crystrata.networks.combined import CombinedNetwork
from crystrata.networks.multitask import MultiTaskNetwork, NetworkConfig

FORMAT = 1
_MEMBERS = "members"

Network = MultiTaskNetwork | CombinedNetwork


def pack_network(config: NetworkConfig, state: dict[str, Tensor], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a weights file.

    Args:
        config: What the network is made of.
        state: Its weights, scaling included.
        facts: Plain values about its training: run, data, score, elements seen.
    """
    return {"format": FORMAT, "network": config.as_dict(), "state": state, "facts": facts}


def pack_members(members: Sequence[MultiTaskNetwork], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a weights file of several networks that predict as one; arguments as in `pack_network`."""
    state = {
        f"{place}.{name}": tensor
        for place, member in enumerate(members)
        for name, tensor in member.state_dict().items()
    }
    network = {_MEMBERS: [member.config.as_dict() for member in members]}
    return {"format": FORMAT, "network": network, "state": state, "facts": facts}


def unpack_network(content: dict[str, Any]) -> tuple[Network, dict[str, Any]]:
    """Return the network, in evaluation mode, and the facts of a weights file.

    Raises:
        ModelError: The content is of another format or does not fit its own configuration.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"weights are not of format {FORMAT}, which this version reads; retrain or convert them")
    try:
        config, state = content["network"], content["state"]
        if _MEMBERS not in config:
            return _network(config, state).eval(), content["facts"]
        members = [_network(member, _of(place, state)) for place, member in enumerate(config[_MEMBERS])]
        return CombinedNetwork(members).eval(), content["facts"]
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"weights do not fit their configuration ({str(error).splitlines()[0]}): "
            "retrain, or use the version that wrote them"
        ) from None


def _network(config: dict[str, Any], state: dict[str, Tensor]) -> MultiTaskNetwork:
    network = MultiTaskNetwork(NetworkConfig.from_dict(config))
    network.load_state_dict(state)
    return network


def _of(place: int, state: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{place}."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
