"""What a network is made of, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from crystrata.errors import UsageError, unknown_name
from crystrata.graph_settings import GraphSettings
from crystrata.tasks import KINDS, Task

MASKED_FEATURES, CONTRASTIVE, CROSS_RECONSTRUCTION = "masked_features", "contrastive", "cross_reconstruction"
SELF_SUPERVISED = (MASKED_FEATURES, CONTRASTIVE, CROSS_RECONSTRUCTION)
"""Self-supervised losses; the last two compare a composition with its crystal."""


@dataclass(frozen=True)
class NetworkConfig:
    """Everything needed to build a network without its weights.

    Attributes:
        tasks: The tasks, in order.
        structure: Encoder of crystals, or None.
        structure_settings: Its settings.
        graph: Settings of the neighbourhoods that it reads.
        composition: Encoder of descriptors of compositions, or None.
        composition_settings: Its settings.
        latent_stage: What stands between encoders and heads: `none`, `tanh` or `deposit`.
        deposit_width: Width of the latent after `deposit`, if not that of the encoder.
        modality_dropout: Fraction of the materials that are trained without their crystal, where both are read.
        self_supervised: Self-supervised losses, rows of `SELF_SUPERVISED`.

    Raises:
        UsageError: Two tasks have one name, a self-supervised loss is unknown or lacks what it compares, nothing is
            read, or a head needs crystals where there may be none.
    """

    tasks: tuple[Task, ...] = ()
    structure: str | None = None
    structure_settings: dict[str, Any] = field(default_factory=dict)
    graph: GraphSettings = field(default_factory=GraphSettings)
    composition: str | None = None
    composition_settings: dict[str, Any] = field(default_factory=dict)
    latent_stage: str = "none"
    deposit_width: int | None = None
    modality_dropout: float = 0.3
    self_supervised: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.structure is None and self.composition is None:
            raise UsageError("a network reads crystals, compositions, or both: choose an encoder")
        for loss in self.self_supervised:
            if loss not in SELF_SUPERVISED:
                raise unknown_name("self-supervised loss", loss, SELF_SUPERVISED)
            if self.composition is None:
                raise UsageError(f"{loss} learns from the descriptor of a composition: choose a composition encoder")
            if loss != MASKED_FEATURES and self.structure is None:
                raise UsageError(f"{loss} compares compositions with their crystals: choose a graph encoder")
        names = [*(task.name for task in self.tasks), *self.self_supervised]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"two tasks are named {twice[0]!r}; each needs a name of its own")
        for task in self.tasks:
            if KINDS[task.kind].whole_crystals and not self.reads_crystals_alone:
                raise UsageError(
                    f"task {task.name!r} is of the kind {task.kind}, whose head reads the atoms of crystals: choose a "
                    "structure encoder and no composition encoder, or the kind scalar"
                )

    @property
    def reads_crystals_alone(self) -> bool:
        """Whether every material must have a crystal."""
        return self.composition is None

    def with_tasks(self, tasks: tuple[Task, ...]) -> NetworkConfig:
        """Return the configuration with other tasks."""
        return replace(self, tasks=tasks)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        tasks = [task.as_dict() for task in self.tasks]
        return {**asdict(replace(self, tasks=())), "tasks": tasks, "self_supervised": list(self.self_supervised)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """Make a configuration from the values of `as_dict`."""
        return cls(
            **{
                **values,
                "tasks": tuple(map(Task.from_dict, values["tasks"])),
                "graph": GraphSettings(**values["graph"]),
                "self_supervised": tuple(values["self_supervised"]),
            }
        )
