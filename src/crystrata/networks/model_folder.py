"""A model as a folder to share: tensors as safetensors, everything else as JSON, both with their SHA-256.

The content is that of a weights file (`networks/weights.py`); nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from crystrata.errors import ModelError
from crystrata.files import digest_of_json, write_atomically, write_json
from crystrata.runs.find import DESCRIPTION, WEIGHTS

FORMAT = 3
_CONTENT_FORMATS = {2: 1, FORMAT: 2}  # of the folder -> of the weights inside; the older one is read for one version
_STATE, _HULLS, _CALIBRATION, _RECORD = (
    "state.",
    "hulls.",
    "calibration.",
    "record.",
)  # prefixes of names
_SEAL = "sha256"
_ADVICE = "copy the folder again, or make it again with `crystrata export`"


def write_model_folder(folder: Path, content: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """Write a model; each file appears whole, and a folder that lacks one is refused by the reader.

    Args:
        folder: Where to.
        content: What `pack_network` made; with the tensors of a `calibration` where there is one.
        about: Plain values that tell more, for people and other programs; loading needs none of them.

    Returns:
        The content of the JSON file.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    facts = dict(content["facts"])
    hulls = facts.pop("hulls", {})
    named = {_STATE + name: tensor for name, tensor in content["state"].items()}
    named |= {f"{_HULLS}{hull}.{name}": tensor for hull, parts in hulls.items() for name, tensor in parts.items()}
    named |= {_CALIBRATION + name: tensor for name, tensor in content.get("calibration", {}).items()}
    named |= {_RECORD + name: tensor for name, tensor in content.get("record", {}).items()}
    packed = safetensors.torch.save({name: tensor.contiguous().clone() for name, tensor in named.items()})
    description = {
        "format": FORMAT,
        **about,
        "network": content["network"],
        "facts": facts,
        "weights_sha256": hashlib.sha256(packed).hexdigest(),
    }
    description[_SEAL] = digest_of_json(description)
    write_json(folder / DESCRIPTION, description)
    write_atomically(folder / WEIGHTS, lambda file: file.write(packed))
    return description


def read_model_folder(folder: Path) -> dict[str, Any]:
    """Return the content that `write_model_folder` was given.

    Raises:
        ModelError: A file is missing or damaged, they do not belong together, or the format is another one.
    """
    description = _description(folder / DESCRIPTION)
    packed = _bytes(folder / WEIGHTS)
    try:
        if hashlib.sha256(packed).hexdigest() != description["weights_sha256"]:
            raise ModelError(f"{folder / WEIGHTS} is damaged or of another model: its SHA-256 is not that of "
                             f"{DESCRIPTION}; {_ADVICE}")  # fmt: skip
        tensors = safetensors.torch.load(packed)
        hulls: dict[str, dict[str, Tensor]] = {}
        for name, tensor in _of(_HULLS, tensors).items():
            hull, part = name.split(".")
            hulls.setdefault(hull, {})[part] = tensor
        return {
            "format": _CONTENT_FORMATS[description["format"]],
            "network": description["network"],
            "state": _of(_STATE, tensors),
            "facts": {**description["facts"], "hulls": hulls},
            "calibration": _of(_CALIBRATION, tensors),
            "record": _of(_RECORD, tensors),
        }
    except (SafetensorError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} holds no model of Crystrata ({error}); {_ADVICE}") from None


def _of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _description(file: Path) -> dict[str, Any]:
    try:
        description = json.loads(_bytes(file))
    except ValueError as error:
        raise ModelError(f"{file} is damaged: {error}; {_ADVICE}") from None
    if not isinstance(description, dict):
        raise ModelError(f"{file} is damaged: it describes no model; {_ADVICE}")
    if description.get("format") not in _CONTENT_FORMATS:
        raise ModelError(
            f"{file} has format {description.get('format')}, this version reads {FORMAT}: "
            "use the version of Crystrata that wrote it, or make it again with `crystrata export`"
        )
    if description.pop(_SEAL, None) != digest_of_json(description):
        raise ModelError(f"{file} is damaged: it has changed since it was written; {_ADVICE}")
    return description


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error.strerror or error}; {_ADVICE}") from None
