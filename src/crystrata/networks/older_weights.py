"""Weights of the format before this one, read for one version: other names of parts, the same numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from crystrata.errors import ModelError
from crystrata.jarvis_properties import property_tasks
from crystrata.tasks import Task

OLDER = 1
_NEWER = 2

_LAYERS = re.compile(r"(.*heads\.\w+\.(?:layers|invariant))\.([02])\.(weight|bias)")
_PLACES = {"0": "hidden.0.first.0", "2": "last"}
_OF_TASKS = {"encoder.": "composition_encoder.", "graph_encoder.": "encoder.", "graph_latent.": "structure_latent."}


def upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a weights file in the present format; other content as it is.

    Raises:
        ModelError: It is of a kind of network that there is no longer.
    """
    if not isinstance(content, dict) or content.get("format") != OLDER:
        return content
    config, state = content["network"], content["state"]
    if config.get("kind") == "tasks":
        if config["encoder"] == "none":
            raise ModelError("weights of a network that read a crystal through a constant: train it again")
        network: dict[str, Any] = _of_tasks(config)
        state = {_renamed(name): tensor for name, tensor in state.items()}
    elif "members" in config:
        network = {"members": [_of_crystals(member) for member in config["members"]]}
        state = _crystal_state(state)
    else:
        network, state = _of_crystals(config), _crystal_state(state)
    return {**content, "format": _NEWER, "network": network, "state": state}


def _of_crystals(config: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {name: kind for name, kind in config["heads"].items() if name in config["properties"]}
    tasks = {task.name: task.as_dict() for task in property_tasks(config["properties"], kinds)}
    hidden = {} if config["head_hidden"] == 128 else {"head": {"hidden": [config["head_hidden"]]}}
    return {
        "tasks": [{**tasks[name], **hidden} for name in config["properties"]],
        "structure": config["encoder"],
        "structure_settings": config["settings"],
        "graph": config["graph"],
        "self_supervised": [],
    }


def _of_tasks(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tasks": [Task.from_dict(task).as_dict() for task in config["tasks"]],
        "structure": config["graph_encoder"],
        "structure_settings": config["graph_settings"],
        "graph": config["graph"],
        "composition": config["encoder"],
        "composition_settings": config["settings"],
        **{name: config[name] for name in ("latent_stage", "deposit_width", "modality_dropout")},
        "self_supervised": config["pretrain"],
    }


def _crystal_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, tensor in state.items():
        if name.endswith(".scaling.ridge") and "heads.formation_energy." not in name:
            continue  # of properties that are no mean over atoms; it was zero
        match = _LAYERS.fullmatch(name)
        found[f"{match[1]}.{_PLACES[match[2]]}.{match[3]}" if match else name] = tensor
    return found


def _renamed(name: str) -> str:
    for older, newer in _OF_TASKS.items():
        if name.startswith(older):
            return newer + name.removeprefix(older)
    return name
