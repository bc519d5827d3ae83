"""From the document of a run to its configuration and what is added to its trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger

from crystrata.errors import UsageError, unknown_name
from crystrata.runs.config import RunConfig, field_names, resolve_config
from crystrata.runs.directory import is_plain_name
from crystrata.settings import checked, require_known
from crystrata.tasks import KINDS, SELECTIONS, parse_tasks
from crystrata.training.fit import Extras
from crystrata.workflows.documents.document import (
    NEW_NAMES,
    Document,
    class_and_arguments,
    imported_object,
    old_classes,
    require_allowed,
)
from crystrata.workflows.documents.older_keys import PRESET_KEYS, fields_of, fields_of_trainer

SECTIONS = ("experiment_name", "seed_everything", "trainer", "model", "data")
CLASSES = ("CompositionModel", "CrystalModel", "CompositionData", "CrystalData")
SEED = 42

_RETIRED = "lora_"
_DEFAULT_ENCODER = {"composition": "mlp", "composition_settings": {"hidden_dims": [None, 256, 128]}}


@dataclass(frozen=True)
class Experiment:
    """A run as its document writes it.

    Attributes:
        name: Name of its run directories, or None for time stamps.
        config: The run.
        predict: Part that `predict` writes of a source's own materials.
        callbacks: Class paths of callbacks beside our own.
        logger: Whether the run keeps its logs, or class paths of loggers beside its own.
    """

    name: str | None
    config: RunConfig
    predict: str = "test"
    callbacks: Any = None
    logger: Any = True

    def as_document(self) -> Document:
        """Return the complete document, with every default."""
        further = {"callbacks": self.callbacks, "logger": self.logger}
        trainer = self.config.trainer.given() | {key: one for key, one in further.items() if one is not None}
        return {"experiment_name": self.name, **self.config.as_dict(), "trainer": trainer, "run_id": None}

    def extras(self) -> Extras:
        """Make the callbacks and loggers; a logger that is given no folder writes into that of the experiment.

        A callback that monitors a metric that this run does not have is a UsageError.
        """
        folder = str(Path(self.config.models_dir) / (self.name or ""))
        callbacks = [
            imported_object(value, L.Callback, f"trainer.callbacks.{place}", {})
            for place, value in enumerate(_as_list(self.callbacks))
        ]
        metrics = monitored(self.config)
        for callback in callbacks:
            monitor = getattr(callback, "monitor", None)
            if monitor is not None and monitor not in metrics:
                raise unknown_name(f"metric for {type(callback).__name__} to monitor", monitor, metrics)
        loggers = [
            imported_object(value, Logger, f"trainer.logger.{place}", {"save_dir": folder})  # type: ignore[type-abstract]
            for place, value in enumerate([] if isinstance(self.logger, bool) else _as_list(self.logger))
        ]
        return Extras(callbacks, loggers, self.logger is not False)


def read_experiment(document: Document) -> tuple[Experiment, list[str]]:
    """Return the experiment of a document, and the notices that go with it.

    A document has the fields of a run at its top, or the sections of LightningCLI: trainer, model, data.

    Raises:
        UsageError: A key or name is unknown, a value of another kind, or something contradicts the rest.
    """
    require_allowed(document)
    retired: list[str] = []
    document = {key: _without_retired(value, key, retired) for key, value in document.items()}
    notices = [f"low-rank adapters are gone: {', '.join(retired)} change nothing"] if retired else []
    notices += [f"{old} is read as {new}" for old, new in old_classes(document).items()]
    require_known(document, [*SECTIONS, *field_names(), *PRESET_KEYS], "the top")
    name = document.get("experiment_name") or document.get("run_id")
    if name is not None and (not isinstance(name, str) or not is_plain_name(name)):
        raise UsageError(f"experiment_name must be a plain name, not {name!r}")
    trainer = document.get("trainer") or {}
    if not isinstance(trainer, Mapping):
        raise UsageError(f"trainer must be a mapping, not {trainer!r}")
    for key in ("callbacks", "logger"):
        _require_class_paths(trainer.get(key), f"trainer.{key}")
    flat = {key: value for key, value in document.items() if key not in SECTIONS}
    _require_pair(document)
    model, data = _section(document, "model", required=not flat), _section(document, "data", required=not flat)
    values = fields_of({**flat, **model}, data)
    predict = str(data.get("predict_idx") or "test") if isinstance(data.get("predict_idx"), str | None) else "test"
    if predict not in SELECTIONS:
        raise unknown_name("predict_idx", predict, SELECTIONS)
    values |= fields_of_trainer(trainer)
    seed = document.get("seed_everything", values.get("seed", SEED))
    values["seed"] = checked(seed, int, "seed_everything")
    values["run_id"] = name
    complete = set(field_names()) <= {*flat, *SECTIONS}
    config = RunConfig.from_dict(values) if complete else _config({**flat, **model}, values)
    return Experiment(name, config, predict, trainer.get("callbacks"), trainer.get("logger", True)), notices


def _config(model: Mapping[str, Any], values: dict[str, Any]) -> RunConfig:
    """Return the configuration: from a preset where the document speaks of one, else from the defaults of a run."""
    speaks_of_preset = any(model.get(key) is not None for key in PRESET_KEYS) or not (
        values.get("tasks") or values.get("self_supervised") or values.get("autoencoder")
    )
    if speaks_of_preset:
        if "tasks" in values:
            values["tasks"] = parse_tasks(values["tasks"])
        if values.get("structure_settings") is None:
            values.pop("structure_settings", None)
        return resolve_config(values.pop("algorithm", "e3nn"), values.pop("mode", "std"), **values)
    reads = {} if values.get("structure") or values.get("composition") else _DEFAULT_ENCODER
    if values.get("structure") and not values.get("composition") and "encoder_config" not in model:
        reads = _DEFAULT_ENCODER
    defaults = {"latent_stage": "tanh" if values.get("composition") or reads else "none", "algorithm": "composition"}
    if values.get("structure"):
        defaults["algorithm"] = f"composition+{values['structure']}"
    return RunConfig.from_dict({**defaults, **reads, **values})


def document_of(config: RunConfig) -> Document:
    """Return a document that gives a configuration again."""
    return {"experiment_name": config.run_id, **config.as_dict(), "run_id": None}


def monitored(config: RunConfig) -> list[str]:
    """Return the names of the metrics that a callback can monitor, of every validation."""
    metrics = ["val_score", "val_total_loss", "val_final_loss"]
    for task in config.trained:
        kinds = ("loss", "mae", "accuracy") if KINDS[task.kind].metric == "accuracy" else ("loss", "mae")
        metrics += [f"val_{task.name}_{kind}" for kind in kinds]
    return [*metrics, *(f"val_{loss}_loss" for loss in config.self_supervised)]


def _section(document: Document, name: str, *, required: bool) -> dict[str, Any]:
    """Return the arguments of a section, whose class says no more than what it holds."""
    value = document.get(name)
    if value is None:
        if required:
            raise UsageError(f"the configuration lacks {name}: give class_path ({', '.join(CLASSES)}) and init_args")
        return {}
    path, arguments = class_and_arguments(value, name)
    short = _short(path)
    known = [one for one in CLASSES if one.lower().endswith(name)]
    if short not in known:
        raise unknown_name(f"class at {name}", path, known)
    return arguments


def _short(path: str) -> str:
    """Return the name of a class as it is here."""
    name = path.rpartition(".")[2]
    return NEW_NAMES.get(name, name)


def _require_pair(document: Document) -> None:
    """Refuse a model of compositions with data of crystals, and the other way round."""
    sections = [document[name] for name in ("model", "data") if document.get(name) is not None]
    short = [_short(class_and_arguments(one, "model")[0]) for one in sections]
    if len(short) == 2 and short[0].removesuffix("Model") != short[1].removesuffix("Data"):
        expected = short[0].replace("Model", "Data")
        if short[0] in CLASSES and short[1] in CLASSES:
            raise UsageError(f"{short[0]} learns from {expected}, not {short[1]}")


def _require_class_paths(value: Any, place: str) -> None:
    allowed = isinstance(value, str | Mapping | bool) or value is None
    if isinstance(value, list):
        allowed = all(isinstance(one, str | Mapping) for one in value)
    if not allowed:
        raise UsageError(f"{place} must be class paths, not {value!r}")


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
