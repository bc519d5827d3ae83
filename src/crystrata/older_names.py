"""Older spellings of what users may have: keys of tasks, kinds of heads, names of settings, and of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TASK_KEYS = {"type": "kind", "data_column": "columns", "steps_column": "t_column", "num_classes": "classes"}
"""Older key of a task -> its field."""

TASK_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "regression": ("scalar", {"error": "mse", "centre": "mean", "norm": "layer", "activation": "leaky_relu"}),
    "kernelregression": ("curve", {}),
    "kernel_regression": ("curve", {}),
    "kernel": ("curve", {}),
}
"""Older kind in small letters -> the kind, and the settings of its head that it stood for."""

HEAD_SETTINGS = (
    "dims subtype d_in hidden cell seq_len d_model nhead num_encoder_layers dim_feedforward class_weights".split()
)
"""Settings of a head that may stand beside the other keys of a task; the head knows which of them it has."""

_RETIRED = "lora_"


def without_retired(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping without the settings of low-rank adapters, which are gone."""
    return {key: value for key, value in record.items() if not str(key).startswith(_RETIRED)}
