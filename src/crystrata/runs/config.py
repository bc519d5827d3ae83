"""One frozen configuration per run: a preset of the table with the user's overrides resolved into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Any

from crystrata.errors import UsageError, unknown_name
from crystrata.files import digest_of_json
from crystrata.graph_settings import GraphSettings
from crystrata.presets import (
    ANGLE_FORMS,
    ENCODERS,
    PROFILES,
    SIZES,
    SPECIALISTS,
    TRACKS,
    Schedule,
    get_preset,
    resolve_size,
)
from crystrata.properties import GROUPS, get_property, resolve_properties, trained_properties
from crystrata.sources.names import DEFAULT_RELEASE, Source

DEVICES = ("auto", "cpu", "cuda")

NOT_RESULT = (
    "models_dir", "data_dir", "workers", "run_id", "data_file", "splits_file", "device", "source", "keep_last", "top_k",
    "time_budget", "compiled", "start",
)  # fmt: skip
"""Fields that say where and how a run is carried out, not what it computes: free to change on resume (crystals,
labels and split are compared by their digests; weights that it started from are in its checkpoints)."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run; printed by `--dry-run`, saved as `config.json`.

    Attributes:
        algorithm: Track, e3nn or cgcnn.
        mode: Level or profile.
        properties: Names of the properties, in table order.
        size: Row of the size table.
        encoder: Row of the encoder table.
        encoder_settings: Its settings.
        heads: Kind of the head of a property, where it is not the property's own.
        epochs: Passes over the training part.
        batch_size: Crystals per micro-batch.
        accumulate: Micro-batches per optimiser step.
        lr: Peak learning rate.
        schedule: Learning rate over time.
        clip: Largest gradient norm.
        weight_decay: Of AdamW.
        ema: Decay of the moving average of the weights.
        learned_balance: Whether task weights are learned.
        patience: Epochs without a better score before the run stops.
        max_samples: Crystals used in all parts together, or None for all.
        split: Protocol of the split, such as `random` or `official:ehull`.
        splits_file: Published splits that the protocol reads, or None to look for them.
        seed: Seed of split, order and weights.
        outlier_filter: Whether training labels that cannot be right are masked; they are reported either way.
        outlier_z: Robust score above which a label is an outlier.
        source: Where crystals come from.
        release: Official release, when they are downloaded.
        data_file: Local data file, or None.
        graph: Settings of the neighbourhoods.
        device: `auto`, `cpu`, `cuda`.
        compiled: Whether the encoder is compiled for training, if the compiled one proves equal.
        workers: Loader and store-building processes.
        keep_last: Checkpoints that are kept.
        top_k: Epochs whose weights are kept, the best ones.
        time_budget: Hours of training that the number of epochs is fitted to, or None.
        start: Run directory or weights file whose encoder and heads the training starts from, or None.
        single_task: Whether this is a single-property specialist, which has a folder of its own.
        models_dir: Folder of all runs.
        data_dir: Folder of downloads, stores and hulls.
        run_id: Name of the run directory, or None for a time stamp.
    """

    algorithm: str
    mode: str
    properties: tuple[str, ...]
    size: str
    encoder: str
    epochs: int
    batch_size: int
    lr: float
    accumulate: int
    schedule: Schedule
    clip: float
    weight_decay: float
    ema: float
    learned_balance: bool
    patience: int
    max_samples: int | None
    encoder_settings: dict[str, Any] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    split: str = "random"
    splits_file: str | None = None
    seed: int = 42
    outlier_filter: bool = True
    outlier_z: float = 8.0
    source: Source = "auto"
    release: str = DEFAULT_RELEASE
    data_file: str | None = None
    graph: GraphSettings = field(default_factory=GraphSettings)
    device: str = "auto"
    compiled: bool = False
    workers: int = 0
    keep_last: int = 3
    top_k: int = 3
    time_budget: float | None = None
    start: str | None = None
    single_task: bool = False
    models_dir: str = "models"
    data_dir: str = "data"
    run_id: str | None = None

    def __post_init__(self) -> None:
        for name in (
            "epochs",
            "batch_size",
            "accumulate",
            "lr",
            "clip",
            "patience",
            "outlier_z",
            "keep_last",
            "top_k",
        ):
            if not 0 < getattr(self, name) < inf:
                flag = "keep-last-k" if name == "keep_last" else name.replace("_", "-")
                raise UsageError(f"--{flag} must be positive, not {getattr(self, name)}")
        if not 0 <= self.weight_decay < inf:
            raise UsageError(f"--weight-decay must be 0 or more, not {self.weight_decay}")
        if self.max_samples is not None and self.max_samples < 60:
            raise UsageError(f"--max-samples must be at least 60 (three parts of 20), not {self.max_samples}")
        if self.time_budget is not None and not 0 < self.time_budget < inf:
            raise UsageError(f"--time-budget must be positive hours, not {self.time_budget}")
        if self.workers < 0:
            raise UsageError(f"--workers must be 0 or more, not {self.workers}")
        if self.device not in DEVICES:
            raise unknown_name("--device", self.device, DEVICES)
        if self.seed < 0:
            raise UsageError(f"--seed must be 0 or more, not {self.seed}")
        encoders = [name for name, row in ENCODERS.items() if row.algorithm == self.algorithm]
        if self.encoder not in encoders:
            raise unknown_name("encoder", self.encoder, encoders)
        for name, kind in self.heads.items():
            record = get_property(name)
            if record.derived_from:
                raise UsageError(f"--head {name}={kind}: {name} has no head: it follows from {record.derived_from}")
            if kind not in record.heads:
                raise unknown_name(f"head of {name}", kind, record.heads)
        angles = self.encoder_settings.get("angles", ANGLE_FORMS[0])
        if angles not in ANGLE_FORMS:
            raise unknown_name("form of angles", angles, ANGLE_FORMS)

    @property
    def family(self) -> str:
        """Folder under `models/` that receives the run."""
        preset = get_preset(self.algorithm, self.mode)
        if not self.single_task:
            return preset.family
        return f"{preset.family.replace('multitask', 'singletask')}/{self.properties[0]}"

    @property
    def trained_properties(self) -> tuple[str, ...]:
        """Properties that have a head; the others are derived from them."""
        return trained_properties(self.properties)

    @property
    def family_dir(self) -> Path:
        """Path of the family's folder."""
        return Path(self.models_dir) / self.family

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "properties": list(self.properties)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """Make a configuration from the values of `as_dict`."""
        known = {entry.name for entry in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UsageError(f"unknown configuration keys: {', '.join(unknown)}")
        return cls(**{**values, "properties": tuple(values["properties"]), "graph": GraphSettings(**values["graph"])})

    def digest(self) -> str:
        """Return a digest of everything that decides the result: a resumed run must have the same one."""
        return digest_of_json({key: value for key, value in self.as_dict().items() if key not in NOT_RESULT})


def resolve_config(
    algorithm: str = "e3nn",
    mode: str = "std",
    *,
    properties: Sequence[str] | None = None,
    preset: str | None = None,
    encoder: str | None = None,
    angles: str | None = None,
    single_task: bool = False,
    **overrides: Any,
) -> RunConfig:
    """Resolve a preset and overrides into a configuration.

    Args:
        algorithm: e3nn or cgcnn.
        mode: A level or profile.
        properties: Names; the group `core4` if not given.
        preset: Model size in place of the preset's own.
        encoder: Row of the encoder table in place of the track's own (`plain_e3nn` is the reference trunk).
        angles: Angle features on the edges in place of the encoder's own choice.
        start: Run directory or weights file whose encoder and heads the training starts from, or None.
        single_task: Whether this is a single-property specialist.
        **overrides: Fields of `RunConfig`; None means not given.

    Raises:
        UsageError: A name is unknown or values contradict each other.
    """
    cell, track = get_preset(algorithm, mode), TRACKS[algorithm]
    names = resolve_properties(properties or GROUPS["core4"])
    if single_task and len(names) != 1:
        raise UsageError(f"a single-task run takes one property, not {len(names)}: {', '.join(names)}")
    size = resolve_size(algorithm, preset or cell.size)
    given = {key: value for key, value in overrides.items() if value is not None}
    epochs = given.get("epochs", cell.epochs)
    encoder = encoder or algorithm
    without = ENCODERS[encoder].without if encoder in ENCODERS else ()
    if angles is not None and "angles" in without:
        raise UsageError(f"--angles and --encoder {encoder} contradict each other: that encoder has none")
    settings = {**SIZES[algorithm, size], **({} if angles is None else {"angles": angles})}
    values: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": cell.batch_size,
        "lr": cell.lr,
        "accumulate": cell.accumulate,
        "schedule": track.schedule,
        "clip": track.clip,
        "weight_decay": track.weight_decay,
        "ema": track.ema,
        "learned_balance": track.learned_balance,
        "patience": max(10, epochs // 4),
        "max_samples": cell.max_samples,
        "encoder_settings": {name: value for name, value in settings.items() if name not in without},
        **cell.training,
        **(SPECIALISTS.get((algorithm, mode), {}) if single_task else {}),
        **given,
        "heads": _heads(algorithm, names, given.get("heads", {})),
    }
    return RunConfig(algorithm, mode, names, size, encoder, single_task=single_task, **values)


def _heads(algorithm: str, names: Sequence[str], given: dict[str, str]) -> dict[str, str]:
    """Return the heads that differ from the properties' own: the baseline track has scalar heads throughout."""
    untrained = sorted(set(given) - set(names))
    if untrained:
        raise UsageError(f"--head names {', '.join(untrained)}, which this run does not train: add it to --properties")
    tensors = [name for name in names if get_property(name).head != "scalar"] if algorithm == "cgcnn" else []
    return {**dict.fromkeys(tensors, "scalar"), **given}


def mode_in_words(mode: str) -> str:
    """Return `level std` or `profile competition`."""
    return f"profile {mode}" if mode in PROFILES else f"level {mode}"
