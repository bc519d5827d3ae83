"""Random numbers that depend on a seed and a name or purpose alone, whatever else is drawn."""

from __future__ import annotations

import hashlib

import numpy as np

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


def hash_position(seed: int, name: str) -> int:
    """Return the place of a name in the order of a seed; it depends on no random generator and no other name."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")
