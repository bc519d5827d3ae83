"""Heads: from latents to one property or task.

A new head of a property is one file and one row of `HEADS`, and the property names its heads; a new head of a task is
one file and one row of `TASK_HEADS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crystrata.errors import UsageError, unknown_name
from crystrata.graph_settings import GraphSettings
from crystrata.networks.heads.autoencoder import AutoencoderHead
from crystrata.networks.heads.classification import ClassificationHead
from crystrata.networks.heads.dielectric import DielectricHead
from crystrata.networks.heads.gap import GapHead
from crystrata.networks.heads.head import Head
from crystrata.networks.heads.kernel import KernelHead
from crystrata.networks.heads.piezoelectric import LargestPiezoelectricHead, PiezoelectricHead
from crystrata.networks.heads.regression import RegressionHead
from crystrata.networks.heads.scalar import ScalarHead
from crystrata.networks.heads.sequence_rnn import RnnHead
from crystrata.networks.heads.sequence_tcn import TcnHead
from crystrata.networks.heads.sequence_transformer import HybridHead, TransformerHead
from crystrata.networks.heads.sequence_vec import VecHead
from crystrata.networks.heads.task_head import TaskHead
from crystrata.properties import Property

HEADS: dict[str, type[Head]] = {
    "scalar": ScalarHead,
    "gap": GapHead,
    "dielectric": DielectricHead,
    "piezoelectric": PiezoelectricHead,
    "piezoelectric_largest": LargestPiezoelectricHead,
}
"""Kind -> class; every row passes the contract suite in tests/contracts."""

TASK_HEADS: dict[str, type[TaskHead]] = {
    "regression": RegressionHead,
    "classification": ClassificationHead,
    "kernel": KernelHead,
    "rnn": RnnHead,
    "vec": VecHead,
    "tcn": TcnHead,
    "transformer": TransformerHead,
    "hybrid": HybridHead,
    "autoencoder": AutoencoderHead,
}
"""Kind -> class of the heads of tasks; every row passes the contract suite in tests/contracts."""


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


def build_task_head(kind: str, width: int, settings: Mapping[str, Any]) -> TaskHead:
    """Make the head of a task, on latents of the given width.

    Raises:
        UsageError: The kind or a setting is unknown, or a setting does not fit.
    """
    if kind not in TASK_HEADS:
        raise unknown_name("head", kind, TASK_HEADS)
    known = TASK_HEADS[kind].setting_names()
    for setting in settings:
        if setting not in known:
            raise unknown_name(f"setting of head {kind}", setting, known)
    return TASK_HEADS[kind](width, **settings)
