"""Whether two runs hold the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from crystrata.runs.directory import BEST, CHECKPOINT
from crystrata.training.checkpoints import read_checkpoint


def tensors(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint by their path."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {path: tensor for key, part in items for path, tensor in tensors(part, f"{name}/{key}").items()}


def assert_same_bits(run: Path, expected: Path) -> None:
    """Every bit of weights, averages and optimizer is the same."""
    for name in (BEST, CHECKPOINT):
        found, wanted = (tensors(read_checkpoint(path / name)) for path in (run, expected))
        assert found.keys() == wanted.keys()
        assert len(wanted) > 20
        assert [path for path in wanted if not torch.equal(found[path], wanted[path])] == []
