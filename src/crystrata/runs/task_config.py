"""One frozen configuration for a run over tasks on compositions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Any

from crystrata.errors import UsageError, unknown_name
from crystrata.files import digest_of_json
from crystrata.graph_settings import GraphSettings
from crystrata.presets import Schedule
from crystrata.runs.config import DEVICES, NOT_RESULT
from crystrata.sources.names import DEFAULT_RELEASE, Source

SCHEDULES: tuple[Schedule, ...] = ("cosine", "plateau", "constant")
_SCHEDULE_NAMES: dict[str, Schedule] = {
    "cosine": "cosine",
    "plateau": "plateau",
    "reducelronplateau": "plateau",
    "constant": "constant",
    "none": "constant",
}
"""Name in small letters, as the settings of an optimiser write it -> learning rate over time."""

NOT_RESULT_OF_TASKS = (*NOT_RESULT, "graph_start")
"""As `NOT_RESULT`, of runs over tasks."""


@dataclass(frozen=True)
class TaskRunConfig:
    """Everything that decides a run over tasks; saved as `config.json`.

    Attributes:
        tasks: Plain values of each task, as `TaskSpec.from_dict` takes them.
        descriptor: `kind`, a row of `DESCRIPTORS`, and its settings.
        encoder: Encoder of descriptors.
        encoder_settings: Its settings; None in place of the width of the descriptor.
        latent_stage: `none`, `tanh` or `deposit`.
        deposit_width: Width of the latent after `deposit`, if another.
        autoencoder: Whether a head named `autoencoder` rebuilds the descriptor.
        pretrain: Loss without labels -> its static weight.
        graph_encoder: Encoder of crystals that joins in, or None.
        graph_settings: Its settings.
        graph: Settings of its neighbourhoods.
        modality_dropout: Part of the samples that are trained without their crystal.
        graph_start: Run directory, weights file or model folder of a network of crystals whose encoder the training
            starts from, or None.
        source: Where crystals come from.
        release: Official release of crystals.
        data_file: Local file of crystals, or None.
        epochs: Passes over the training part.
        batch_size: Compositions per micro-batch.
        accumulate: Micro-batches per optimiser step.
        lr: Peak learning rate of the shared part, and of heads without one of their own.
        schedule: Learning rate over time.
        freeze_shared: Whether everything but the heads stays as it is.
        clip: Largest gradient norm.
        weight_decay: Of AdamW.
        ema: Decay of the moving average of the weights.
        learned_balance: Whether task weights are learned.
        patience: Epochs without a better score before the run stops.
        val_split: Share of the validation part, of compositions whose part no table states.
        test_split: Share of the test part.
        splits_file: `splits.json` of another run, whose compositions and parts are taken over; None draws a split.
        test_all: Whether every composition is in the test part, whatever the tables state: to evaluate, not to train.
        redraw_masks: Whether each epoch sees other samples of a task with a masking ratio.
        seed: Seed of split, masks, order and weights.
        split_seed: Seed of the split, if another.
        trust_pickle: Whether pickled tables may be opened.
        device: `auto`, `cpu`, `cuda`.
        workers: Loader processes.
        keep_last: Checkpoints that are kept.
        top_k: Epochs whose weights are kept, the best ones.
        time_budget: Hours after which no epoch starts, or None.
        start: Run directory or weights file whose shared part and heads the training starts from, or None.
        carry_heads: Whether heads of the start for other tasks stay in the network, frozen.
        models_dir: Folder of all runs.
        data_dir: Folder of downloads and stores.
        run_id: Name of the run directory, or None for a time stamp.

    Raises:
        UsageError: A value is out of range.
    """

    tasks: tuple[dict[str, Any], ...]
    descriptor: dict[str, Any] = field(default_factory=lambda: {"kind": "kernel_mean"})
    encoder: str = "mlp"
    encoder_settings: dict[str, Any] = field(default_factory=lambda: {"hidden_dims": [None, 256, 128]})
    latent_stage: str = "tanh"
    deposit_width: int | None = None
    autoencoder: bool = False
    pretrain: dict[str, float] = field(default_factory=dict)
    graph_encoder: str | None = None
    graph_settings: dict[str, Any] = field(default_factory=dict)
    graph: GraphSettings = field(default_factory=GraphSettings)
    modality_dropout: float = 0.3
    graph_start: str | None = None
    source: Source = "auto"
    release: str = DEFAULT_RELEASE
    data_file: str | None = None
    epochs: int = 100
    batch_size: int = 64
    accumulate: int = 1
    lr: float = 1e-3
    schedule: Schedule = "cosine"
    freeze_shared: bool = False
    clip: float = 1.0
    weight_decay: float = 1e-5
    ema: float = 0.999
    learned_balance: bool = False
    patience: int = 20
    val_split: float = 0.1
    test_split: float = 0.1
    splits_file: str | None = None
    test_all: bool = False
    redraw_masks: bool = True
    seed: int = 42
    split_seed: int | None = None
    trust_pickle: bool = False
    device: str = "auto"
    workers: int = 0
    keep_last: int = 3
    top_k: int = 1
    time_budget: float | None = None
    start: str | None = None
    carry_heads: bool = False
    models_dir: str = "models"
    data_dir: str = "data"
    run_id: str | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "lr", "clip", "patience", "keep_last", "top_k"):
            if not 0 < getattr(self, name) < inf:
                raise UsageError(f"{name} must be positive, not {getattr(self, name)}")
        for name, known in (("schedule", SCHEDULES), ("device", DEVICES)):
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        if "kind" not in self.descriptor:
            raise UsageError("descriptor needs the key kind, such as kernel_mean")
        if not self.tasks and not self.autoencoder and not self.pretrain:
            raise UsageError("a run needs a task, the autoencoder or a loss without labels")
        if self.carry_heads and not self.start:
            raise UsageError("carry_heads needs a start to carry heads from")
        if self.seed < 0 or self.workers < 0 or not 0 <= self.weight_decay < inf:
            raise UsageError("seed, workers and weight_decay must be 0 or more")

    @property
    def algorithm(self) -> str:
        """Track, as the manifest names it."""
        return "composition" if self.graph_encoder is None else f"composition+{self.graph_encoder}"

    @property
    def mode(self) -> str:
        """What takes the place of a level."""
        return "tasks"

    @property
    def properties(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(str(task.get("name", "")) for task in self.tasks)

    @property
    def family_dir(self) -> Path:
        """Folder that receives the run."""
        return Path(self.models_dir) / f"tasks_{self.encoder}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "tasks": [dict(task) for task in self.tasks]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskRunConfig:
        """Make a configuration from the values of `as_dict`.

        Raises:
            UsageError: A key is unknown.
        """
        known = [entry.name for entry in fields(cls)]
        for key in values:
            if key not in known:
                raise unknown_name("configuration key", key, known)
        given = dict(values)
        if "graph" in given:
            given["graph"] = GraphSettings(**given["graph"])
        return cls(**{**given, "tasks": tuple(map(dict, given.get("tasks", ())))})

    def digest(self) -> str:
        """Return a digest of everything that decides the result: a resumed run must have the same one."""
        return digest_of_json({key: value for key, value in self.as_dict().items() if key not in NOT_RESULT_OF_TASKS})


def schedule_named(scheduler_type: str | None) -> Schedule | None:
    """Return the learning rate over time that the settings of an optimiser name; None where they name none.

    Raises:
        UsageError: The name is unknown.
    """
    if scheduler_type is None:
        return None
    if str(scheduler_type).lower() not in _SCHEDULE_NAMES:
        raise unknown_name("scheduler_type", str(scheduler_type), _SCHEDULE_NAMES)
    return _SCHEDULE_NAMES[str(scheduler_type).lower()]
