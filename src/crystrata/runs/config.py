"""One frozen configuration per run: a preset or the defaults, with the user's overrides resolved into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge

from crystrata.errors import UsageError, unknown_name
from crystrata.files import digest_of_json
from crystrata.graph_settings import GraphSettings
from crystrata.jarvis_properties import GROUPS, get_property, property_tasks, trained_tasks
from crystrata.presets import (
    ANGLE_FORMS,
    ENCODERS,
    MODES,
    PROFILES,
    SIZES,
    SPECIALISTS,
    TRACKS,
    OptimizerName,
    Schedule,
    get_preset,
    resolve_size,
)
from crystrata.settings import Fraction, NonNegative, NonNegativeInt, Positive, PositiveInt, make
from crystrata.sources import DEFAULT_RELEASE, Source
from crystrata.tasks import Task, parse_tasks

Device = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda")
AUTOENCODER = "autoencoder"
OWN_TABLES = "tasks"
"""Mode of a run over tasks with tables of their own, which has no level."""

NOT_RESULT = (
    "models_dir", "data_dir", "workers", "run_id", "data_file", "splits_file", "device", "source", "keep_last", "top_k",
    "time_budget", "compiled", "start", "structure_start", "strict_start", "table", "structures", "id_column",
)  # fmt: skip
"""Fields that say where and how a run is carried out, not what it computes: free to change on resume (materials,
labels and split are compared by their digests; weights that it started from are in its checkpoints)."""

LEAST_SAMPLES = 60

TRUST_PICKLE = "trust_pickle"
"""Key of earlier configurations: whether code in pickled tables may run, which only a person may allow."""


@dataclass(frozen=True)
class TrainerArguments:
    """Arguments of Lightning's Trainer that are handed on as they are; None leaves them to it.

    Attributes:
        limit_train_batches: Steps of an epoch, or the share of them.
        limit_val_batches: Batches of a validation, or the share of them.
        max_steps: Steps after which the training ends.
        min_steps: Steps before which patience does not end it.
        min_epochs: Epochs before which patience does not end it.
        precision: 32-true, or bf16-mixed for matrix products in 16 bits; weights, labels and errors have 32.
        deterministic: Whether an operation that is not deterministic is an error; warn for a warning.
        benchmark: Whether cuDNN looks for its fastest algorithm.
        detect_anomaly: Whether a gradient that is not a number is traced back.
        profiler: simple or advanced: the time of every part of the training is printed.
        inference_mode: Whether validation is in torch's inference mode.
        log_every_n_steps: Steps between two lines of the loggers.
        enable_progress_bar: Whether progress is shown.
        enable_model_summary: Whether the modules are listed first.
    """

    limit_train_batches: PositiveInt | Positive | None = None
    limit_val_batches: PositiveInt | Positive | None = None
    max_steps: PositiveInt | None = None
    min_steps: PositiveInt | None = None
    min_epochs: PositiveInt | None = None
    precision: Literal["32", "32-true", "bf16-mixed"] | None = None
    deterministic: bool | Literal["warn"] | None = None
    benchmark: bool | None = None
    detect_anomaly: bool | None = None
    profiler: Literal["simple", "advanced"] | None = None
    inference_mode: bool | None = None
    log_every_n_steps: PositiveInt | None = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = None

    def given(self) -> dict[str, Any]:
        """Return those that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run; printed by `--dry-run`, saved as `config.json`.

    Attributes:
        tasks: What is learned: properties of JARVIS-DFT, or tasks with tables of their own.
        algorithm: Track: e3nn, cgcnn, or composition.
        mode: Level or profile; `tasks` for tables of one's own without a level.
        size: Model size, a row of the size table.
        single_task: Whether this is a single-property specialist, which has a folder of its own.
        structure: Encoder of crystals: e3nn, cgcnn, or plain_e3nn, the readable reference.
        structure_settings: Settings of the encoder of crystals.
        graph: Settings of the neighbourhoods.
        composition: Encoder of compositions, mlp or transformer.
        composition_settings: Settings of the encoder of compositions; null in place of the width of the descriptor.
        descriptor: Kind of descriptor of compositions and its settings.
        latent_stage: What stands between encoders and heads: none, tanh or deposit.
        deposit_width: Width of the latent after `deposit`, if another.
        modality_dropout: Fraction of the materials that are trained without their crystal, where both are read.
        autoencoder: Whether a head named `autoencoder` rebuilds the descriptor.
        self_supervised: Self-supervised losses and their static weights: masked_features, contrastive,
            cross_reconstruction.
        source: Where crystals come from; auto takes --data-file, $CRYSTRATA_JARVIS, the download, or the demo crystals
            without a network.
        release: Official release to download.
        data_file: Local dft_3d file: json, json.gz, json.zip or parquet.
        table: Table of one's own with a row for each structure, in place of a source.
        structures: Structures that the rows of this table name: a folder, an archive or a file.
        id_column: Column of this table that names the structures; found if not given.
        max_samples: Materials in all parts together.
        outlier_filter: Whether training labels that cannot be right are masked; they are reported either way.
        outlier_z: Robust score above which a label is an outlier.
        split: Protocol of the split: random, official:<benchmark>, union, union-strict, formation-energy,
            by-chemical-system, by-prototype, refit, union-refit; by-table, saved or test-all for tables of one's own.
        splits_file: Official ids (default: leaderboard_splits.parquet beside the data file, or the leaderboard's
            download), or the splits.json of another run for `saved`.
        val_split: Share of the validation part, of materials whose part no table states.
        test_split: Share of the test part, of materials whose part no table states.
        split_seed: Seed of the split, if another than that of the run.
        redraw_masks: Whether each epoch sees other samples of a task with a masking ratio.
        start: Run, weights file or shipped model whose encoders and heads the training starts from.
        structure_start: Run, weights file or shipped model of crystals whose encoder the training starts from.
        strict_start: Whether a start that was trained on materials tested here is refused for tasks of one's own too.
        carry_heads: Whether heads of the start for other tasks stay in the network, frozen.
        freeze_shared: Whether everything but the heads stays as it is.
        epochs: Passes over the training part.
        batch_size: Materials per micro-batch.
        accumulate: Micro-batches per optimizer step.
        lr: Peak learning rate.
        schedule: Learning rate over time.
        clip: Largest gradient norm.
        optimizer: Rule of the steps: adamw, or soap and muon, which treat each matrix of weights as a whole.
        weight_decay: Decoupled weight decay.
        ema: Decay of the moving average of the weights that is validated and saved.
        learned_balance: Whether task weights are learned.
        weigh_by_labels: Whether a task pulls on the shared encoder by the square root of its share of labels.
        patience: Epochs without a better score before the run stops.
        seed: Seed of split, order and weights.
        device: Where to compute.
        compiled: Compile the encoder first (a minute); pays in runs of an hour or more.
        workers: Processes that load and build graphs.
        keep_last: Checkpoints that are kept.
        top_k: Epochs whose weights are kept, the best.
        time_budget: Hours that the number of epochs, and with it the schedule, is fitted to.
        trainer: Further arguments of Lightning's Trainer.
        models_dir: Folder of all runs.
        data_dir: Folder of downloads, graph stores and hulls.
        run_id: Name of the run directory (default: time and a short id).

    Raises:
        UsageError: Values contradict each other.
    """

    tasks: tuple[Task, ...] = ()
    algorithm: str = "composition"
    mode: str = OWN_TABLES
    size: str = ""
    single_task: bool = False
    structure: str | None = None
    structure_settings: dict[str, Any] = field(default_factory=dict)
    graph: GraphSettings = field(default_factory=GraphSettings)
    composition: str | None = None
    composition_settings: dict[str, Any] = field(default_factory=dict)
    descriptor: dict[str, Any] = field(default_factory=lambda: {"kind": "kernel_mean"})
    latent_stage: Literal["none", "tanh", "deposit"] = "none"
    deposit_width: PositiveInt | None = None
    modality_dropout: Fraction = 0.3
    autoencoder: bool = False
    self_supervised: dict[str, float] = field(default_factory=dict)
    source: Source = "auto"
    release: str = DEFAULT_RELEASE
    data_file: str | None = None
    table: str | None = None
    structures: str | None = None
    id_column: str | None = None
    max_samples: Annotated[int, Ge(LEAST_SAMPLES)] | None = None
    outlier_filter: bool = False
    outlier_z: Positive = 8.0
    split: str = "by-table"
    splits_file: str | None = None
    val_split: float = 0.1
    test_split: float = 0.1
    split_seed: NonNegativeInt | None = None
    redraw_masks: bool = True
    start: str | None = None
    structure_start: str | None = None
    strict_start: bool = False
    carry_heads: bool = False
    freeze_shared: bool = False
    epochs: PositiveInt = 100
    batch_size: PositiveInt = 64
    accumulate: PositiveInt = 1
    lr: Positive = 1e-3
    schedule: Schedule = "cosine"
    clip: Positive = 1.0
    optimizer: OptimizerName = "adamw"
    weight_decay: NonNegative = 1e-5
    ema: Fraction = 0.999
    learned_balance: bool = False
    weigh_by_labels: bool = False
    patience: PositiveInt = 20
    seed: NonNegativeInt = 42
    device: Device = "auto"
    compiled: bool = False
    workers: NonNegativeInt = 0
    keep_last: PositiveInt = 3
    top_k: PositiveInt = 1
    time_budget: Positive | None = None
    trainer: TrainerArguments = field(default_factory=TrainerArguments)
    models_dir: str = "models"
    data_dir: str = "data"
    run_id: str | None = None

    def __post_init__(self) -> None:
        if self.autoencoder and all(task.kind != AUTOENCODER for task in self.tasks):
            object.__setattr__(self, "tasks", (*self.tasks, Task(AUTOENCODER, AUTOENCODER)))
        if not self.tasks and not self.self_supervised:
            raise UsageError("a run needs a task, the autoencoder or a self-supervised loss")
        if "kind" not in self.descriptor:
            raise UsageError("descriptor needs the key kind, such as kernel_mean")
        if self.carry_heads and not self.start:
            raise UsageError("carry_heads needs a start to carry heads from")
        encoders = [name for name, row in ENCODERS.items() if row.algorithm == self.algorithm] or list(ENCODERS)
        if self.structure is not None and self.structure not in encoders:
            raise unknown_name("encoder", self.structure, encoders)
        angles = self.structure_settings.get("angles", ANGLE_FORMS[0])
        if angles not in ANGLE_FORMS:
            raise unknown_name("form of angles", angles, ANGLE_FORMS)

    @property
    def properties(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(task.name for task in self.tasks)

    @property
    def trained(self) -> tuple[Task, ...]:
        """Tasks that have a head; the others are derived from them."""
        return trained_tasks(self.tasks)

    @property
    def encoder(self) -> str:
        """Names of the encoders: `e3nn`, `mlp`, `mlp+e3nn`."""
        return "+".join(name for name in (self.composition, self.structure) if name)

    @property
    def family(self) -> str:
        """Folder under `models/` that receives the run."""
        if self.mode not in MODES:
            return f"tasks_{self.composition or self.structure}"
        preset = get_preset(self.algorithm, self.mode)
        if not self.single_task:
            return preset.family
        return f"{preset.family.replace('multitask', 'singletask')}/{self.properties[0]}"

    @property
    def family_dir(self) -> Path:
        """Path of the family's folder."""
        return Path(self.models_dir) / self.family

    @property
    def title(self) -> str:
        """Words for a person: `e3nn, level std`."""
        return f"{self.algorithm}, {mode_in_words(self.mode)}" if self.mode in MODES else self.encoder

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(replace(self, tasks=self.tasks)), "tasks": [task.as_dict() for task in self.tasks]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Make a configuration from the values of `as_dict`.

        Raises:
            UsageError: A key is unknown, or a value of another kind or out of range.
        """
        refuse_trust_pickle(values, TRUST_PICKLE)
        tasks = values.get("tasks", ())
        if not isinstance(tasks, list | tuple):
            raise UsageError(f"tasks must be a list, not {tasks!r}")
        records = [task.as_dict() if isinstance(task, Task) else task for task in tasks]
        rest = {key: value for key, value in values.items() if key != "tasks"}
        return make(cls, {**rest, "tasks": parse_tasks(records)}, "")

    def digest(self) -> str:
        """Return a digest of everything that decides the result: a resumed run must have the same one."""
        return digest_of_json({key: value for key, value in self.as_dict().items() if key not in NOT_RESULT})

    def differences(self, other: RunConfig, free: Sequence[str] = ()) -> list[str]:
        """Return what decides the result and differs, `lr 0.001 -> 0.002`, but for some fields that are free."""
        old, new, ignored = self.as_dict(), other.as_dict(), {*NOT_RESULT, *free}
        return [f"{key} {old[key]} -> {new[key]}" for key in old if key not in ignored and old[key] != new[key]]


def refuse_trust_pickle(values: Mapping[str, Any], place: str) -> None:
    """Refuse a file that allows code in pickled tables to run.

    Raises:
        UsageError: It does.
    """
    if TRUST_PICKLE in values:
        raise UsageError(
            f"{place}: a file cannot say that pickles are to be trusted. Write the table as parquet or csv, or give "
            "--trust-pickle on the command line"
        )


def resolve_config(
    algorithm: str = "e3nn",
    mode: str = "std",
    *,
    properties: Sequence[str] | None = None,
    tasks: Sequence[Task] | None = None,
    heads: Mapping[str, str] | None = None,
    size: str | None = None,
    structure: str | None = None,
    angles: str | None = None,
    single_task: bool = False,
    **overrides: Any,
) -> RunConfig:
    """Resolve a preset and overrides into the configuration of a run on crystals.

    Args:
        algorithm: e3nn or cgcnn.
        mode: A level or profile.
        properties: Names of properties; the group `core4` if neither these nor tasks are given.
        tasks: Tasks of one's own.
        heads: Property -> kind of its head, where it is not its own.
        size: Model size in place of the preset's own.
        structure: Row of the encoder table in place of the track's own (`plain_e3nn` is the reference).
        angles: Angle features on the edges in place of the encoder's own choice.
        single_task: Whether this is a single-property specialist.
        **overrides: Fields of `RunConfig`; None means not given.

    Raises:
        UsageError: A name is unknown or values contradict each other.
    """
    preset, track = get_preset(algorithm, mode), TRACKS[algorithm]
    chosen = tuple(tasks) if tasks is not None else _properties(algorithm, properties, heads or {})
    if single_task and len(chosen) != 1:
        names = ", ".join(task.name for task in chosen)
        raise UsageError(f"a single-task run takes one property, not {len(chosen)}: {names}")
    resolved = resolve_size(algorithm, size or preset.size)
    given = {key: value for key, value in overrides.items() if value is not None}
    epochs = given.get("epochs", preset.epochs)
    structure = structure or algorithm
    without = ENCODERS[structure].without if structure in ENCODERS else ()
    if angles is not None and "angles" in without:
        raise UsageError(f"--angles and --encoder {structure} contradict each other: that encoder has none")
    settings = {**SIZES[algorithm, resolved], **({} if angles is None else {"angles": angles})}
    values: dict[str, Any] = {
        "tasks": chosen,
        "algorithm": algorithm,
        "mode": mode,
        "size": resolved,
        "single_task": single_task,
        "structure": structure,
        "structure_settings": {name: value for name, value in settings.items() if name not in without},
        "split": "random",
        "outlier_filter": True,
        "epochs": epochs,
        "batch_size": preset.batch_size,
        "lr": preset.lr,
        "accumulate": preset.accumulate,
        "schedule": track.schedule,
        "clip": track.clip,
        "weight_decay": track.weight_decay,
        "ema": track.ema,
        "learned_balance": track.learned_balance,
        "weigh_by_labels": True,
        "patience": max(10, epochs // 4) if isinstance(epochs, int) else 10,
        "max_samples": preset.max_samples,
        "top_k": 3,
        **preset.training,
        **(SPECIALISTS.get((algorithm, mode), {}) if single_task else {}),
        **given,
    }
    return make(RunConfig, values, "")


def _properties(algorithm: str, properties: Sequence[str] | None, heads: Mapping[str, str]) -> tuple[Task, ...]:
    """Return properties as tasks: the baseline track has scalar heads throughout."""
    own = property_tasks(properties or GROUPS["core4"])
    for name, kind in heads.items():
        get_property(name).of_kind(kind)
    untrained = sorted(set(heads) - {task.name for task in own})
    if untrained:
        raise UsageError(f"--head names {', '.join(untrained)}, which this run does not train: add it to --properties")
    scalar = [task.name for task in own if task.kind != "scalar"] if algorithm == "cgcnn" else []
    return property_tasks([task.name for task in own], {**dict.fromkeys(scalar, "scalar"), **heads})


def mode_in_words(mode: str) -> str:
    """Return `level std` or `profile competition`."""
    return f"profile {mode}" if mode in PROFILES else f"level {mode}"


def field_names() -> list[str]:
    """Return the names of all fields of a configuration."""
    return [entry.name for entry in fields(RunConfig)]
