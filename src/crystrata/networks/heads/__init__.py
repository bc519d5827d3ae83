"""Heads: from a latent to one property. A new head is one file and one row of `HEADS`."""

from __future__ import annotations

from collections.abc import Callable

from crystrata.networks.heads.head import Head
from crystrata.networks.heads.scalar import ScalarHead
from crystrata.properties import Property

HEADS: dict[str, Callable[[Property, int, int], Head]] = {"scalar": ScalarHead}
"""Kind -> class; every row passes the contract suite in tests/contracts."""


def build_head(record: Property, width: int, hidden: int) -> Head:
    """Make the head of a property on latents of the given width."""
    return HEADS[record.head](record, width, hidden)
