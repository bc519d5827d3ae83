"""Heads: from latents to one property. A new head is one file and one row of `HEADS`; a property names its heads."""

from __future__ import annotations

from crystrata.errors import UsageError, unknown_name
from crystrata.neighbourhood import GraphSettings
from crystrata.networks.heads.dielectric import DielectricHead
from crystrata.networks.heads.gap import GapHead
from crystrata.networks.heads.head import Head
from crystrata.networks.heads.piezoelectric import LargestPiezoelectricHead, PiezoelectricHead
from crystrata.networks.heads.scalar import ScalarHead
from crystrata.properties import Property

HEADS: dict[str, type[Head]] = {
    "scalar": ScalarHead,
    "gap": GapHead,
    "dielectric": DielectricHead,
    "piezoelectric": PiezoelectricHead,
    "piezoelectric_largest": LargestPiezoelectricHead,
}
"""Kind -> class; every row passes the contract suite in tests/contracts."""


def build_head(kind: str, record: Property, width: int, hidden: int, graph: GraphSettings) -> Head:
    """Make a head of a kind for a property, on latents of the given width.

    Raises:
        UsageError: The kind is unknown, or made for another property.
    """
    if kind not in HEADS:
        raise unknown_name("head", kind, HEADS)
    if kind not in record.heads:
        raise UsageError(f"head {kind} is not made for {record.name} (its heads: {', '.join(record.heads)})")
    return HEADS[kind](record, width, hidden, graph)
