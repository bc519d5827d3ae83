"""Random streams by purpose: each draws its own numbers from one base seed, whatever the others do."""

from __future__ import annotations

import numpy as np

from crystrata.datasets.splits.split import hash_position
from crystrata.errors import unknown_name

PURPOSES = ("split", "masks", "swap", "loader")


def stream_seed(seed: int, purpose: str) -> int:
    """Return the seed of a purpose, below 2^56.

    Raises:
        UsageError: No purpose has that name.
    """
    if purpose not in PURPOSES:
        raise unknown_name("purpose of a random stream", purpose, PURPOSES)
    return hash_position(seed, f"stream {purpose}")


def random_stream(seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """Return the generator of a purpose; each row of further keys, such as task and epoch, has one of its own."""
    return np.random.default_rng((stream_seed(seed, purpose), *keys))
