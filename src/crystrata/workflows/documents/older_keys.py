"""Keys of YAML files in the layout of LightningCLI, as older documents write them, as fields of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from datetime import timedelta
from typing import Any, get_type_hints

from crystrata.errors import UsageError, unknown_name
from crystrata.graph_settings import GraphSettings
from crystrata.networks.config import MASKED_FEATURES, SELF_SUPERVISED
from crystrata.presets import schedule_named
from crystrata.runs.config import (
    AUTOENCODER,
    TRUST_PICKLE,
    RunConfig,
    TrainerArguments,
    field_names,
    refuse_trust_pickle,
)
from crystrata.settings import checked, make, require_known
from crystrata.tasks import parse_tasks
from crystrata.workflows.documents.document import NEW_NAMES, class_and_arguments

Values = dict[str, Any]

RENAMED = {
    "level": "mode", "preset": "size", "encoder": "structure", "encoder_settings": "structure_settings",
    "num_workers": "workers", "latent_activation": "latent_stage", "graph_start": "structure_start",
    "enable_learnable_loss_balancer": "learned_balance", "enable_autoencoder": "autoencoder",
    "formula_desc_source": "descriptor", "random_seed": "split_seed", "train_random_seed": "split_seed",
}  # fmt: skip
"""Older key of `model` or `data` -> field of a run."""

TRAINER = {
    "max_epochs": "epochs", "accelerator": "device", "default_root_dir": "models_dir", "gradient_clip_val": "clip",
    "accumulate_grad_batches": "accumulate", "max_time": "time_budget", "patience": "patience",
    "keep_last": "keep_last", "top_k": "top_k",
}  # fmt: skip
"""Key of `trainer` -> field of a run."""

OTHER_TRAINER_KEYS = ("fast_dev_run", "callbacks", "logger")

_ONE_PROCESS = "a run is one process on one device"
_EVERY_EPOCH = "every epoch is validated once, at its end: by it the best weights are chosen"
_ORDER = "the order of the materials is a function of seed and epoch, so that a continued run has the same"
FIXED: dict[str, tuple[tuple[Any, ...], str]] = {
    "devices": ((1, "1", "auto", [0]), _ONE_PROCESS),
    "num_nodes": ((1,), _ONE_PROCESS),
    "strategy": (("auto", "single_device"), _ONE_PROCESS),
    "sync_batchnorm": ((False,), _ONE_PROCESS),
    "use_distributed_sampler": ((True, False), "no effect on one device"),
    "check_val_every_n_epoch": ((1,), _EVERY_EPOCH),
    "val_check_interval": ((1.0,), _EVERY_EPOCH),
    "overfit_batches": ((0, 0.0), f"{_EVERY_EPOCH}; limit_train_batches trains on a part"),
    "num_sanity_val_steps": ((-1, 0, 1, 2), "no effect: data and network are checked before"),
    "reload_dataloaders_every_n_epochs": ((0,), _ORDER),
    "enable_checkpointing": ((True,), "checkpoints are what --resume continues"),
    "barebones": ((False,), "checkpoints are what --resume continues"),
    "plugins": ((), "the run writes its own checkpoints"),
    "gradient_clip_algorithm": (("norm",), "the norm of the whole gradient is clipped"),
    "limit_test_batches": ((1.0,), "the test part is evaluated in whole"),
    "limit_predict_batches": ((1.0,), "all materials that are asked for are predicted"),
}  # fmt: skip
"""Key of `trainer` -> the values that it may have here, and why no others."""
PRESET_KEYS = tuple("algorithm level mode preset size properties heads angles single_task encoder".split())
"""Keys that speak of a preset: the other fields then come from it."""

_STRUCTURED = (
    "task_configs", "tasks", "encoder_config", "shared_block_dims", "norm_shared", "residual_shared", "loss_weights",
    "shared_block_optimizer", "freeze_encoder", "train_only", "pretrain", "graph_encoder", "attributes_source",
    "descriptor_fn", "composition_column", "split_column", "test_all", "task_masking_ratios", "predict_idx",
)  # fmt: skip
"""Keys that are not one field of a run each."""

_PASSED = tuple(field.name for field in dataclass_fields(TrainerArguments))
_CLOCK = (86400, 3600, 60, 1)  # of DD:HH:MM:SS


@dataclass(frozen=True)
class SharedBlockOptimizer:
    """Settings of the optimizer of all but the heads; what is None is left to the run."""

    lr: float | None = None
    scheduler_type: str | None = None
    weight_decay: float | None = None
    freeze_parameters: bool | None = None


def known_keys() -> list[str]:
    """Return every key that `model` and `data` may have."""
    return [*field_names(), *RENAMED, *_STRUCTURED, "properties", "heads", "angles"]


def fields_of(model: Mapping[str, Any], data: Mapping[str, Any]) -> Values:
    """Return the fields of a run, and arguments of its preset, that `model` and `data` write."""
    for values, place in ((model, "model.init_args"), (data, "data.init_args")):
        refuse_trust_pickle(values, f"{place}.{TRUST_PICKLE}")
        require_known(values, known_keys(), place)
    both = {name for name in {*model} & {*data} if name not in ("task_configs", "tasks") and model[name] != data[name]}
    if both:
        raise UsageError(f"{min(both)} of model and data differ: give one")
    given = {key: value for key, value in {**data, **model}.items() if value is not None}
    found = {RENAMED.get(key, key): value for key, value in given.items() if key not in _STRUCTURED}
    if data.get("random_seed") is not None and data.get("train_random_seed") not in (None, data["random_seed"]):
        raise UsageError("random_seed and its older name train_random_seed differ: give one")
    if given.get("formula_desc_source") is not None:
        if given.get("descriptor") is not None:
            raise UsageError("descriptor and formula_desc_source contradict each other: give one")
        found["descriptor"] = {"kind": "table", "path": given["formula_desc_source"]}
    if given.get("descriptor_fn") is not None:
        found["descriptor"] = _descriptor(given["descriptor_fn"])
    return found | _tasks(model, data, given) | _encoders(given) | _training(given) | _split(given)


def _descriptor(source: Any) -> Values:
    """Return the descriptor that an older document names: a function, `module:name`, or the class of a source."""
    if isinstance(source, str) and ":" in source:
        return {"kind": "function", "name": source}
    path, arguments = class_and_arguments(source, "data.init_args.descriptor_fn")
    if NEW_NAMES.get(path.rpartition(".")[2]) != "descriptor: {kind: table}":
        raise unknown_name("class at data.init_args.descriptor_fn", path, ["PrecomputedDescriptorSource"])
    return {"kind": "table", **{name: value for name, value in arguments.items() if value is not None}}


def _tasks(model: Mapping[str, Any], data: Mapping[str, Any], given: Mapping[str, Any]) -> Values:
    """Return the tasks of both, complete."""
    here, there = (one.get("task_configs", one.get("tasks")) for one in (model, data))
    for listed, place in ((here, "model"), (there, "data")):
        if not isinstance(listed or [], list | tuple) or not all(isinstance(one, Mapping) for one in listed or ()):
            raise UsageError(f"{place}.init_args.task_configs must be a list of mappings, not {listed!r}")
    if None not in (here, there) and here != there:
        raise UsageError(
            "the task_configs of model and data differ: leave out those of data, or refer to the model's, "
            "${model.init_args.task_configs}"
        )
    names = ("composition_column", "split_column", "predict_idx")
    shared = {name: data[name] for name in names if name in data}
    listed = here if here is not None else there
    if listed is None and not given.get("enable_autoencoder"):
        return {}
    records = [{**shared, **record} for record in listed or ()]
    if given.get("enable_autoencoder"):
        records.append({"name": AUTOENCODER, "kind": AUTOENCODER})
    names = ("loss_weights", "task_masking_ratios", "attributes_source")
    further = {name: given.get(name) for name in names}
    tasks = [task.as_dict() for task in parse_tasks(records, **further, other_losses=SELF_SUPERVISED)]
    if given.get("train_only") is not None:
        tasks = _only(tasks, given["train_only"])
    return {"tasks": tasks}


def _only(tasks: list[Values], names: Sequence[str]) -> list[Values]:
    """Return the tasks with the heads of all but some frozen."""
    known = [task["name"] for task in tasks]
    for name in names:
        if name not in known:
            raise unknown_name("task in train_only", name, known)
    frozen = {"freeze_parameters": True}
    return [
        task if task["name"] in names else {**task, "optimizer": {**task.get("optimizer", {}), **frozen}}
        for task in tasks
    ]


def _encoders(given: Mapping[str, Any]) -> Values:
    """Return the encoder of compositions and, where one joins in, that of crystals."""
    found: Values = {}
    older = [name for name in ("shared_block_dims", "norm_shared", "residual_shared") if given.get(name) is not None]
    if given.get("encoder_config") is not None:
        if older:
            raise UsageError(f"encoder_config and {older[0]} contradict each other: give encoder_config alone")
        found["composition"], found["composition_settings"] = _typed(given["encoder_config"], "encoder_config")
        norm = found["composition_settings"].get("norm")
        if isinstance(norm, bool):  # as shared blocks say it
            found["composition_settings"]["norm"] = "layer" if norm else "none"
        if found["composition"] == "none":  # the crystal alone is read
            del found["composition"], found["composition_settings"]
    elif "shared_block_dims" in older:
        settings: Values = {"hidden_dims": list(given["shared_block_dims"])}
        if given.get("norm_shared") is not None:
            settings["norm"] = "layer" if given["norm_shared"] else "none"
        if given.get("residual_shared") is not None:
            settings["residual"] = given["residual_shared"]
        found["composition"], found["composition_settings"] = "mlp", settings
    elif older:
        raise UsageError(f"{older[0]} belongs to shared_block_dims: give both, or encoder_config")
    if given.get("graph_encoder") is not None:
        found["structure"], settings = _typed(given["graph_encoder"], "graph_encoder")
        found["graph"] = make(GraphSettings, settings.pop("graph", {}), "model.init_args.graph_encoder.graph")
        found["structure_settings"] = settings
    return found


def _typed(settings: Any, place: str) -> tuple[str, Values]:
    """Return what `type` says, and the other settings."""
    if not isinstance(settings, Mapping):
        raise UsageError(f"model.init_args.{place} must be a mapping, not {settings!r}")
    if not isinstance(settings.get("type"), str):
        raise UsageError(f"model.init_args.{place} needs a type")
    return settings["type"], {name: value for name, value in settings.items() if name != "type"}


def _training(given: Mapping[str, Any]) -> Values:
    """Return optimizer, task weights, self-supervised losses and what is frozen."""
    place = "model.init_args.shared_block_optimizer"
    optimizer = make(SharedBlockOptimizer, given.get("shared_block_optimizer") or {}, place)
    alone = given.get("train_only") is not None
    found = {
        "lr": optimizer.lr,
        "schedule": schedule_named(optimizer.scheduler_type),
        "weight_decay": optimizer.weight_decay,
        "freeze_shared": (alone or given.get("freeze_encoder") or optimizer.freeze_parameters) or None,
        "self_supervised": _self_supervised(given),
    }
    if alone:
        found["learned_balance"] = False
    elif "enable_learnable_loss_balancer" not in given and (given.get("loss_weights") or given.get("pretrain")):
        found["learned_balance"] = True
    return {name: value for name, value in found.items() if value is not None}


def _self_supervised(given: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the self-supervised losses with their weights; where they are only switched on, all that there can be."""
    pretrain = given.get("pretrain")
    if isinstance(pretrain, Mapping):
        return dict(pretrain)
    if not pretrain:
        return None
    terms = SELF_SUPERVISED if given.get("graph_encoder") else (MASKED_FEATURES,)
    return {term: float((given.get("loss_weights") or {}).get(term, 1.0)) for term in terms}


def _split(given: Mapping[str, Any]) -> Values:
    if given.get("test_all"):
        return {"split": "test-all"}
    own_tables = given.get("task_configs") is not None or given.get("tasks") is not None
    return {"split": "saved"} if own_tables and given.get("splits_file") and "split" not in given else {}


def fields_of_trainer(values: Mapping[str, Any]) -> Values:
    """Return the fields of a run that `trainer` writes; a value of Lightning's that a run cannot have is refused."""
    require_known(values, [*TRAINER, *_PASSED, *FIXED, *OTHER_TRAINER_KEYS], "trainer")
    values = {key: value for key, value in values.items() if value is not None}
    for key, (allowed, reason) in FIXED.items():
        if key in values and all((type(one), one) != (type(values[key]), values[key]) for one in allowed):
            can_be = f"can only be {' or '.join(dict.fromkeys(map(str, allowed)))} here" if allowed else "is not taken"
            raise UsageError(f"trainer.{key}: {values[key]!r} {can_be}: {reason}")
    passed = {key: value for key, value in values.items() if key in _PASSED}
    given = {key: value for key, value in values.items() if key in TRAINER}
    if quick := int(values.get("fast_dev_run", 0)):  # Lightning's own leaves no checkpoint, and so no run
        passed |= {"limit_train_batches": quick, "limit_val_batches": quick}
        given["max_epochs"] = 1
    if "accelerator" in given:
        given["accelerator"] = {"gpu": "cuda"}.get(given["accelerator"], given["accelerator"])
    if "max_time" in given:
        given["max_time"] = hours_of(given["max_time"])
    hints = get_type_hints(RunConfig, include_extras=True)
    fields = {TRAINER[key]: checked(value, hints[TRAINER[key]], f"trainer.{key}") for key, value in given.items()}
    if isinstance(passed.get("precision"), int):
        passed["precision"] = str(passed["precision"])
    return {**fields, "trainer": make(TrainerArguments, passed, "trainer")} if passed else fields


def hours_of(time: str | int | Mapping[str, float]) -> float:
    """Return the hours of `DD:HH:MM:SS`, or of a mapping such as `{hours: 1.5}`.

    A number is refused: YAML makes one of `1:00:00:00` without quotes.
    """
    if isinstance(time, int):
        raise UsageError(
            f"trainer.max_time is the number {time}: write DD:HH:MM:SS in quotes, such as '01:00:00:00', "
            "or YAML may read it as one number; or give a mapping such as hours: 1.5"
        )
    try:
        if isinstance(time, str):
            parts = [int(part) for part in time.split(":")]
            return sum(unit * part for unit, part in zip(_CLOCK, parts, strict=True)) / 3600
        return timedelta(**time) / timedelta(hours=1)
    except (ValueError, TypeError):
        raise UsageError(
            f"trainer.max_time must be DD:HH:MM:SS or a mapping such as hours: 1.5, not {time!r}"
        ) from None
