"""Networks of crystals as YAML files write them: the fields of a tier run, by model and by data."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from crystrata.datasets.splits import parse_protocol
from crystrata.errors import UsageError, unknown_name
from crystrata.graph_settings import GraphSettings
from crystrata.runs.config import RunConfig, resolve_config
from crystrata.sources.jarvis.releases import get_release
from crystrata.sources.names import DEFAULT_RELEASE, SOURCES
from crystrata.workflows.documents.classes import typed


@dataclass(frozen=True)
class CrystalModel:
    """A network of crystals with a head for each property; what is None comes from the preset.

    Attributes:
        algorithm: Track, e3nn or cgcnn.
        level: A level or profile.
        properties: Names of the properties; the group `core4` if None.
        preset: Model size in place of the level's own.
        encoder: Row of the encoder table.
        encoder_settings: All its settings, in place of those of the size.
        angles: Angle features on the edges.
        heads: Property -> kind of head, where it is not the property's own.
        graph: Settings of the neighbourhoods.
        single_task: Whether it is a single-property specialist, with a folder of its own.
        lr: Peak learning rate.
        schedule: Learning rate over time.
        weight_decay: Of AdamW.
        ema: Decay of the moving average of the weights.
        enable_learnable_loss_balancer: Whether task weights are learned.
        compiled: Whether the encoder is compiled for training.
        start: Run directory or weights file that the training starts from.
    """

    algorithm: str = "e3nn"
    level: str = "std"
    properties: list[str] | None = None
    preset: str | None = None
    encoder: str | None = None
    encoder_settings: dict[str, Any] | None = None
    angles: str | None = None
    heads: dict[str, str] = field(default_factory=dict)
    graph: dict[str, float] | None = None
    single_task: bool = False
    lr: float | None = None
    schedule: str | None = None
    weight_decay: float | None = None
    ema: float | None = None
    enable_learnable_loss_balancer: bool | None = None
    compiled: bool = False
    start: str | None = None


@dataclass(frozen=True)
class CrystalData:
    """Crystals with their labels and split; what is None comes from the preset.

    Attributes:
        source: Where crystals come from: auto, jarvis or demo.
        release: Official release, when they are downloaded.
        data_file: Local data file.
        data_dir: Folder of downloads, stores and hulls.
        split: Protocol of the split.
        splits_file: Published splits that the protocol reads.
        max_samples: Crystals in all parts together.
        batch_size: Crystals per micro-batch.
        num_workers: Loader and store-building processes.
        outlier_filter: Whether training labels that cannot be right are masked.
        outlier_z: Robust score above which a label is an outlier.
        predict_idx: Part that `predict` writes: train, val, test or all.
    """

    source: str = "auto"
    release: str = DEFAULT_RELEASE
    data_file: str | None = None
    data_dir: str = "data"
    split: str = "random"
    splits_file: str | None = None
    max_samples: int | None = None
    batch_size: int | None = None
    num_workers: int = 0
    outlier_filter: bool = True
    outlier_z: float = 8.0
    predict_idx: str = "test"


_RENAMED = {"enable_learnable_loss_balancer": "learned_balance", "level": "mode"}
_OF_DATA = {"num_workers": "workers"}


def crystal_config(model: CrystalModel, data: CrystalData, run: dict[str, Any]) -> RunConfig:
    """Return the configuration of a run.

    Args:
        model: The network.
        data: Its crystals.
        run: Further fields: epochs, device, seed and the like.

    Raises:
        UsageError: A name is unknown or values contradict each other.
    """
    values = {_RENAMED.get(name, name): value for name, value in vars(model).items()}
    values |= {_OF_DATA.get(name, name): value for name, value in vars(data).items() if name != "predict_idx"}
    if model.graph is not None:
        values["graph"] = typed(GraphSettings, model.graph, "model.init_args.graph")
    config = resolve_config(values.pop("algorithm"), values.pop("mode"), **values, **run)
    require_sound_source(config)
    return config


def crystal_experiment(config: RunConfig) -> dict[str, Any]:
    """Return `model`, `data` and `trainer` of a configuration, as `crystal_config` reads them."""
    values = {**config.as_dict(), "preset": config.size, "level": config.mode, "num_workers": config.workers}
    values |= {"enable_learnable_loss_balancer": config.learned_balance, "angles": None, "predict_idx": "test"}
    budget = config.time_budget
    return {
        "trainer": {
            "max_epochs": config.epochs,
            "accelerator": {"cuda": "gpu"}.get(config.device, config.device),
            "default_root_dir": config.models_dir,
            "gradient_clip_val": config.clip,
            "accumulate_grad_batches": config.accumulate,
            **({} if budget is None else {"max_time": {"hours": budget}}),
            **{name: values[name] for name in ("patience", "keep_last", "top_k")},
        },
        "model": _filled(CrystalModel, values),
        "data": _filled(CrystalData, values),
    }


def _filled(cls: type[CrystalModel] | type[CrystalData], values: dict[str, Any]) -> dict[str, Any]:
    given = {name: values[name] for name in (item.name for item in fields(cls)) if values[name] is not None}
    return {"class_path": f"{cls.__module__}.{cls.__name__}", "init_args": given}


def require_sound_source(config: RunConfig) -> None:
    """Refuse a source, release or file that contradicts the rest.

    Raises:
        UsageError: One does, or has an unknown name.
    """
    if config.source not in SOURCES:
        raise unknown_name("source", config.source, SOURCES)
    if config.source == "demo" and config.data_file:
        raise UsageError("--source demo and --data-file contradict each other: give one")
    if not parse_protocol(config.split).published and config.splits_file:
        raise UsageError(f"--splits-file and --split {config.split}, which reads no file, contradict each other")
    get_release(config.release)
