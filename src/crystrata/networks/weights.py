"""A network in a file: configuration, weights and what it was trained on, as tensors and plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from crystrata.errors import ModelError
from crystrata.networks.ensemble import Ensemble
from crystrata.networks.multitask import MultiTaskNetwork, NetworkConfig
from crystrata.networks.task_config import TaskNetworkConfig
from crystrata.networks.task_network import TaskNetwork

FORMAT = 1
_MEMBERS = "members"
_CRYSTALS, _TASKS = "crystals", "tasks"
_KINDS: dict[str, tuple[Any, Any]] = {
    _CRYSTALS: (NetworkConfig, MultiTaskNetwork),
    _TASKS: (TaskNetworkConfig, TaskNetwork),
}
"""Kind in a configuration -> classes of configuration and network; without a kind it is that of crystals."""

Network = MultiTaskNetwork | Ensemble


class Config(Protocol):
    """What a network is made of."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""


def pack_network(config: Config, state: dict[str, Tensor], facts: dict[str, Any]) -> dict[str, Any]:
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


def digest_of_weights(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of weights by name, whatever file they are in."""
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def unpack_network(content: dict[str, Any]) -> tuple[Network, dict[str, Any]]:
    """Return the network of crystals, in evaluation mode, and the facts of a weights file.

    Raises:
        ModelError: The content is of another format, does not fit its own configuration, or is a network of tasks.
    """
    network, facts = _unpack(content)
    if isinstance(network, TaskNetwork):
        raise ModelError("these are the weights of a composition model, which reads formulas and no structures")
    return network, facts


def unpack_task_network(content: dict[str, Any]) -> tuple[TaskNetwork, dict[str, Any]]:
    """Return the network of tasks, in evaluation mode, and the facts of a weights file.

    Raises:
        ModelError: The content is of another format, does not fit its own configuration, or is a network of crystals.
    """
    network, facts = _unpack(content)
    if not isinstance(network, TaskNetwork):
        raise ModelError("these are the weights of a model of crystals, which reads structures and no formulas")
    return network, facts


def _unpack(content: dict[str, Any]) -> tuple[Network | TaskNetwork, dict[str, Any]]:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"weights are not of format {FORMAT}, which this version reads; retrain or convert them")
    try:
        config, state = content["network"], content["state"]
        if _MEMBERS not in config:
            return _network(config, state).eval(), content["facts"]
        members: list[Any] = [_network(member, _of(place, state)) for place, member in enumerate(config[_MEMBERS])]
        return Ensemble(members).eval(), content["facts"]
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"weights do not fit their configuration ({str(error).splitlines()[0]}): "
            "retrain, or use the version that wrote them"
        ) from None


def _network(config: dict[str, Any], state: dict[str, Tensor]) -> MultiTaskNetwork | TaskNetwork:
    config_class, network_class = _KINDS[config.get("kind", _CRYSTALS)]
    network: MultiTaskNetwork | TaskNetwork = network_class(config_class.from_dict(config))
    network.load_state_dict(state)
    return network


def _of(place: int, state: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{place}."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
