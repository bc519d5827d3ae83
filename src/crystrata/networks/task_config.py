"""What a network of tasks is made of, as plain values, and the head that a task asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from crystrata.datasets.tasks.specs import TaskSpec
from crystrata.errors import UsageError, unknown_name
from crystrata.graph_settings import GraphSettings
from crystrata.networks.encoders.descriptor import DescriptorEncoder
from crystrata.networks.heads import build_task_head
from crystrata.networks.heads.task_head import TaskHead

MASKED_FEATURES, CONTRASTIVE, CROSS_RECONSTRUCTION = "masked_features", "contrastive", "cross_reconstruction"
PRETRAINING = (MASKED_FEATURES, CONTRASTIVE, CROSS_RECONSTRUCTION)
"""Losses without labels; the last two compare a composition with its crystal."""

_HEAD_KINDS = {"vector": "regression", "curve": "kernel"}  # where the head is not named after the kind of the task


@dataclass(frozen=True)
class TaskNetworkConfig:
    """Everything needed to build a network of tasks without its weights.

    Attributes:
        encoder: Encoder of descriptors.
        settings: Its settings.
        tasks: The tasks, in order.
        latent_stage: What stands between encoder and heads: `none`, `tanh` or `deposit`.
        deposit_width: Width of the latent after `deposit`, if not that of the encoder.
        graph_encoder: Encoder of the crystals that some compositions have, or None.
        graph_settings: Its settings.
        graph: Settings of the neighbourhoods that it reads.
        modality_dropout: Part of the samples that are trained without their crystal.
        pretrain: Losses without labels, rows of `PRETRAINING`.

    Raises:
        UsageError: Two tasks have one name, a loss without labels is unknown or lacks its crystals, or nothing is read.
    """

    encoder: str
    settings: dict[str, Any]
    tasks: tuple[TaskSpec, ...] = ()
    latent_stage: str = "none"
    deposit_width: int | None = None
    graph_encoder: str | None = None
    graph_settings: dict[str, Any] = field(default_factory=dict)
    graph: GraphSettings = field(default_factory=GraphSettings)
    modality_dropout: float = 0.3
    pretrain: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for term in self.pretrain:
            if term not in PRETRAINING:
                raise unknown_name("loss without labels", term, PRETRAINING)
            if term != MASKED_FEATURES and self.graph_encoder is None:
                raise UsageError(f"{term} compares compositions with their crystals: choose a graph encoder")
        if self.encoder == "none" and (self.graph_encoder is None or self.pretrain):
            raise UsageError("encoder none reads the crystal alone: choose a graph encoder, and no loss without labels")
        names = [*(spec.name for spec in self.tasks), *self.pretrain]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"two tasks are named {twice[0]!r}; each needs a name of its own")

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        tasks = [spec.as_dict() for spec in self.tasks]
        return {**asdict(self), "kind": "tasks", "tasks": tasks, "pretrain": list(self.pretrain)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TaskNetworkConfig:
        """Make a configuration from the values of `as_dict`."""
        known = {key: value for key, value in values.items() if key != "kind"}
        tasks = tuple(map(TaskSpec.from_dict, known["tasks"]))
        graph = GraphSettings(**known["graph"])
        return cls(**{**known, "tasks": tasks, "graph": graph, "pretrain": tuple(known["pretrain"])})


def head_of(spec: TaskSpec, width: int, encoder: DescriptorEncoder, config: TaskNetworkConfig) -> TaskHead:
    """Make the head that a task asks for, on latents of the given width.

    `dims`, the widths from the latent to the output, is understood in place of `hidden`.

    Raises:
        UsageError: A setting is unknown or does not fit.
    """
    settings = dict(spec.head)
    kind = str(settings.pop("subtype", "rnn")) if spec.kind == "sequence" else _HEAD_KINDS.get(spec.kind, spec.kind)
    dims = settings.pop("dims", None)
    if spec.kind == "classification":
        settings["classes"] = len(spec.classes)
    elif spec.kind == "autoencoder":
        settings["input_dim"] = encoder.input_width
        if dims is None and "hidden_dims" in config.settings:  # the encoder, backwards
            settings.setdefault("hidden", list(config.settings["hidden_dims"][-2:0:-1]))
    else:
        settings["transform"] = spec.transform
    if dims is not None:
        output = settings.get("classes") or settings.get("input_dim") or settings.get("components") or 1
        settings["hidden"] = _hidden(spec, dims, width, None if kind == "kernel" else output)
    return build_task_head(kind, width, settings)


def _hidden(spec: TaskSpec, dims: Sequence[int], width: int, output: int | None) -> list[int]:
    if len(dims) < 2 or dims[0] != width or (output is not None and dims[-1] != output):
        wanted = "its output" if output is None else output
        raise UsageError(f"task {spec.name!r}: dims go from the latent, {width}, to {wanted}, not {list(dims)}")
    return list(dims[1:-1])
