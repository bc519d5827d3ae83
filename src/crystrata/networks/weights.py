"""A network in a file: configuration, weights and what it was trained on, as tensors and plain values."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from crystrata.errors import ModelError
from crystrata.networks.multitask import MultiTaskNetwork, NetworkConfig

FORMAT = 1


def pack_network(config: NetworkConfig, state: dict[str, Tensor], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a weights file.

    Args:
        config: What the network is made of.
        state: Its weights, scaling included.
        facts: Plain values about its training: run, data, score, elements seen.
    """
    return {"format": FORMAT, "network": config.as_dict(), "state": state, "facts": facts}


def unpack_network(content: dict[str, Any]) -> tuple[MultiTaskNetwork, dict[str, Any]]:
    """Return the network, in evaluation mode, and the facts of a weights file.

    Raises:
        ModelError: The content is of another format or does not fit its own configuration.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"weights are not of format {FORMAT}, which this version reads; retrain or convert them")
    try:
        network = MultiTaskNetwork(NetworkConfig.from_dict(content["network"]))
        network.load_state_dict(content["state"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"weights do not fit their configuration ({str(error).splitlines()[0]}): "
            "retrain, or use the version that wrote them"
        ) from None
    return network.eval(), content["facts"]
