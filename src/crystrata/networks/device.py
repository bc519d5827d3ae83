"""The device to compute on, by name: one answer for training, evaluation and inference."""

from __future__ import annotations

import torch

from crystrata.errors import ModelError, unknown_name
from crystrata.runs.config import DEVICES


def resolve_device(name: str) -> torch.device:
    """Return the device to compute on; `auto` takes CUDA where it is.

    Raises:
        UsageError: The name is unknown.
        ModelError: CUDA was asked for and is not there.
    """
    if name not in DEVICES:
        raise unknown_name("--device", name, DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device cuda: no CUDA device is available here; use --device cpu")
    return torch.device("cuda" if name in ("auto", "cuda") and torch.cuda.is_available() else "cpu")
