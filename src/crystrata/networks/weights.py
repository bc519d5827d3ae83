"""A network in a file: configuration, weights and what it was trained on, as tensors and plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from crystrata.errors import ModelError
from crystrata.networks.config import NetworkConfig
from crystrata.networks.ensemble import Ensemble
from crystrata.networks.network import Network
from crystrata.networks.older_weights import upgraded
from crystrata.networks.training_record import TrainingRecord

FORMAT = 2
MEMBERS = "members"


def pack_network(
    network: Network, state: dict[str, Tensor], facts: dict[str, Any], record: TrainingRecord
) -> dict[str, Any]:
    """Return the content of a weights file.

    Args:
        network: The network.
        state: Its weights, scaling included: the averaged ones of a training.
        facts: Plain values about its training: run, data, score, elements.
        record: What it was trained on.
    """
    return _packed(network.config.as_dict(), state, facts, record)


def pack_members(members: Sequence[Network], facts: dict[str, Any], record: TrainingRecord) -> dict[str, Any]:
    """Return the content of a weights file of several networks that predict as one; arguments as in `pack_network`."""
    state = {
        f"{place}.{name}": tensor
        for place, member in enumerate(members)
        for name, tensor in member.state_dict().items()
    }
    network = {MEMBERS: [member.config.as_dict() for member in members]}
    return _packed(network, state, facts, record)


def _packed(
    network: dict[str, Any], state: dict[str, Tensor], facts: dict[str, Any], record: TrainingRecord
) -> dict[str, Any]:
    facts = {**facts, "trained_tasks": list(record.tasks)}
    return {"format": FORMAT, "network": network, "state": state, "facts": facts, "record": record.as_tensors()}


def digest_of_weights(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of weights by name, whatever file they are in."""
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def unpack_network(content: dict[str, Any]) -> tuple[Network | Ensemble, dict[str, Any]]:
    """Return the network, in evaluation mode, and the facts of a weights file.

    Raises:
        ModelError: The content is of another format, or does not fit its own configuration.
    """
    content = upgraded(content)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"weights are not of format {FORMAT}, which this version reads; train again")
    try:
        config, state = content["network"], content["state"]
        if MEMBERS not in config:
            return _network(config, state).eval(), content["facts"]
        members = [_network(member, _of(place, state)) for place, member in enumerate(config[MEMBERS])]
        return Ensemble(members).eval(), content["facts"]
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(
            f"weights do not fit their configuration ({str(error).splitlines()[0]}): "
            "train again, or use the version that wrote them"
        ) from None


def unpack_single(content: dict[str, Any]) -> tuple[Network, dict[str, Any]]:
    """Return the network and the facts of a weights file that holds one network.

    Raises:
        ModelError: See `unpack_network`; or it holds several networks.
    """
    network, facts = unpack_network(content)
    if isinstance(network, Ensemble):
        raise ModelError("these weights are those of several networks: name one of the runs that they were made of")
    return network, facts


def _network(config: dict[str, Any], state: dict[str, Tensor]) -> Network:
    network = Network(NetworkConfig.from_dict(config))
    network.load_state_dict(state)
    return network


def _of(place: int, state: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{place}."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
