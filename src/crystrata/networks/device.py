"""Where a network computes: the device by name, and with how many threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread unless `OMP_NUM_THREADS` asks for more: in small steps threads wait for one another."""
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
