"""From the document of a run to its configuration and what is added to its trainer, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger

from crystrata.errors import UsageError, unknown_name
from crystrata.networks.task_config import PRETRAINING
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import is_plain_name
from crystrata.runs.task_config import TaskRunConfig
from crystrata.training.extras import Extras
from crystrata.workflows.documents.classes import (
    class_and_arguments,
    imported_object,
    named_class,
    require_allowed,
    require_known,
    typed,
)
from crystrata.workflows.documents.composition import CompositionData, CompositionModel, composition_config
from crystrata.workflows.documents.crystal import CrystalData, CrystalModel, crystal_config, crystal_experiment
from crystrata.workflows.documents.document import Document
from crystrata.workflows.documents.trainer import TrainerSettings

MODELS: dict[str, type] = {"CompositionModel": CompositionModel, "CrystalModel": CrystalModel}
DATA: dict[str, type] = {"CompositionData": CompositionData, "CrystalData": CrystalData}
TOP = ("experiment_name", "seed_everything", "trainer", "model", "data")
SEED = 42

_PAIRS: dict[type, type] = {CompositionModel: CompositionData, CrystalModel: CrystalData}
_RETIRED = "lora_"


@dataclass(frozen=True)
class Experiment:
    """A run as its document writes it.

    Attributes:
        name: Name of its run directories, or None for time stamps.
        seed: Of split, order and weights.
        trainer: How and where it is carried out.
        model: The network.
        data: What it learns from.
        config: All of it, resolved.
    """

    name: str | None
    seed: int
    trainer: TrainerSettings
    model: CompositionModel | CrystalModel
    data: CompositionData | CrystalData
    config: RunConfig | TaskRunConfig

    def as_document(self) -> Document:
        """Return the complete document, with every default."""
        return {
            "experiment_name": self.name,
            "seed_everything": self.seed,
            "trainer": asdict(self.trainer),
            **{
                name: {"class_path": f"{type(it).__module__}.{type(it).__name__}", "init_args": asdict(it)}
                for name, it in (("model", self.model), ("data", self.data))
            },
        }

    def extras(self) -> Extras:
        """Make the callbacks and loggers; a logger that is told no folder writes into that of the experiment.

        Raises:
            UsageError: One cannot be made, or watches a figure that this run does not have.
        """
        folder = str(Path(self.config.models_dir) / (self.name or ""))
        callbacks = [
            imported_object(value, L.Callback, f"trainer.callbacks.{place}", {})
            for place, value in enumerate(_as_list(self.trainer.callbacks))
        ]
        figures = monitored(self.config)
        for callback in callbacks:
            watched = getattr(callback, "monitor", None)
            if watched is not None and watched not in figures:
                raise unknown_name(f"figure for {type(callback).__name__} to monitor", watched, figures)
        own, logger = self.trainer.logger is not False, self.trainer.logger
        loggers = [
            imported_object(value, Logger, f"trainer.logger.{place}", {"save_dir": folder})  # type: ignore[type-abstract]
            for place, value in enumerate([] if isinstance(logger, bool) else _as_list(logger))
        ]
        return Extras(callbacks, loggers, own)


def read_experiment(document: Document) -> tuple[Experiment, list[str]]:
    """Return the experiment of a document, and the notices that go with it.

    Raises:
        UsageError: A key or name is unknown, a value of another type, or something contradicts the rest.
    """
    require_known(document, TOP, "the top")
    require_allowed(document)
    retired: list[str] = []
    document = {key: _without_retired(value, key, retired) for key, value in document.items()}
    notices = [f"low-rank adapters are gone: {', '.join(retired)} change nothing"] if retired else []
    experiment, seed = document.get("experiment_name"), document.get("seed_everything", SEED)
    if experiment is not None and (not isinstance(experiment, str) or not is_plain_name(experiment)):
        raise UsageError(f"experiment_name must be a plain name, not {experiment!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UsageError(f"seed_everything must be a whole number, not {seed!r}")
    settings = document.get("trainer") or {}
    if not isinstance(settings, Mapping):
        raise UsageError(f"trainer must be a mapping, not {settings!r}")
    trainer = typed(TrainerSettings, settings, "trainer")
    (network, model_values), (labels, data_values) = _part(document, "model", MODELS), _part(document, "data", DATA)
    if labels is not _PAIRS[network]:
        raise UsageError(f"{network.__name__} learns from {_PAIRS[network].__name__}, not {labels.__name__}")
    model, data = typed(network, model_values, "model.init_args"), typed(labels, data_values, "data.init_args")
    run = {**trainer.fields_of_run(), "seed": seed, "run_id": experiment}
    configured = composition_config if network is CompositionModel else crystal_config
    return Experiment(experiment, seed, trainer, model, data, configured(model, data, run)), notices


def document_of(config: RunConfig) -> Document:
    """Return a document that gives a configuration of crystals again."""
    return {"experiment_name": config.run_id, "seed_everything": config.seed, **crystal_experiment(config)}


def monitored(config: RunConfig | TaskRunConfig) -> list[str]:
    """Return the names of the figures that a callback can watch, of every validation."""
    if isinstance(config, RunConfig):
        return ["val_score", *(f"val_{name}_mae" for name in config.trained_properties)]
    figures = ["val_score", "val_total_loss", "val_final_loss"]
    for task in config.tasks:
        kinds = ("loss", "mae", "accuracy") if task["kind"] == "classification" else ("loss", "mae")
        figures += [f"val_{task['name']}_{kind}" for kind in kinds]
    return [*figures, *(f"val_{term}_loss" for term in PRETRAINING if term in config.pretrain)]


def _part(document: Document, name: str, known: Mapping[str, type]) -> tuple[type[Any], dict[str, Any]]:
    """Return the class of a part and its arguments."""
    if document.get(name) is None:
        raise UsageError(f"the configuration lacks {name}: give its class_path ({', '.join(known)}) and init_args")
    path, arguments = class_and_arguments(document[name], name)
    return named_class(path, known, name), arguments


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _without_retired(value: Any, where: str, found: list[str]) -> Any:
    """Return a part of a document without the settings of low-rank adapters, and note where they stood."""
    if isinstance(value, Mapping):
        gone = [key for key in value if str(key).startswith(_RETIRED)]
        found += [f"{where}.{key}" for key in gone]
        return {key: _without_retired(part, f"{where}.{key}", found) for key, part in value.items() if key not in gone}
    if isinstance(value, list):
        return [_without_retired(part, f"{where}.{place}", found) for place, part in enumerate(value)]
    return value
