"""Networks of compositions as YAML files write them: the fields of a run over tasks, by model and by data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crystrata.datasets.tasks.specs import parse_tasks
from crystrata.errors import UsageError, unknown_name
from crystrata.graph_settings import GraphSettings
from crystrata.networks.task_config import MASKED_FEATURES, PRETRAINING
from crystrata.runs.task_config import TaskRunConfig, schedule_named
from crystrata.sources.names import DEFAULT_RELEASE, SOURCES
from crystrata.workflows.documents.classes import typed
from crystrata.workflows.task_preparation import AUTOENCODER

Settings = dict[str, Any]

_SAME = (  # named in a run as in its data
    "batch_size", "val_split", "test_split", "splits_file", "test_all", "redraw_masks", "trust_pickle", "source",
    "release", "data_file", "data_dir",
)  # fmt: skip


@dataclass(frozen=True)
class SharedBlockOptimizer:
    """Settings of the optimiser of all but the heads; what is None is left to the run.

    Attributes:
        lr: Peak learning rate.
        scheduler_type: Learning rate over time.
        weight_decay: Of AdamW.
        freeze_parameters: Whether all but the heads stays as it is.
    """

    lr: float | None = None
    scheduler_type: str | None = None
    weight_decay: float | None = None
    freeze_parameters: bool | None = None


@dataclass(frozen=True)
class CompositionModel:
    """A network of compositions with a head for each task.

    Attributes:
        task_configs: The tasks, as `TaskSpec` takes them.
        encoder_config: `type`, mlp or transformer, and its settings; None in place of the width of the descriptor.
        shared_block_dims: Widths of an mlp, in place of `encoder_config`: descriptor, hidden layers, latent.
        norm_shared: Whether its layers are normed.
        residual_shared: Whether they are residual blocks.
        latent_activation: What stands between encoder and heads: `tanh`, `deposit` or `none`.
        deposit_width: Width of the latent after `deposit`, if another.
        loss_weights: Task or loss without labels -> static weight; the `loss_weight` of a task itself goes before.
        enable_autoencoder: Whether a head rebuilds the descriptor: a task more, named `autoencoder`.
        enable_learnable_loss_balancer: Whether task weights are learned; if None, with `loss_weights` or `pretrain`.
        shared_block_optimizer: `lr`, `scheduler_type`, `weight_decay` and `freeze_parameters` of all but the heads.
        freeze_encoder: The same as `freeze_parameters` there.
        train_only: Tasks whose heads alone are trained; the encoder, other heads and learned weights stay.
        pretrain: Whether losses without labels join in, or which, with their weights.
        graph_encoder: `type`, an encoder of crystals that joins in, and its settings.
        modality_dropout: Part of the samples that are trained without their crystal.
        ema: Decay of the moving average of the weights.
        graph_start: Run directory, weights file or shipped model whose encoder the graph encoder starts from.
        start: Run directory or weights file that the training starts from.
    """

    task_configs: list[Settings] | None = None
    encoder_config: Settings | None = None
    shared_block_dims: list[int | None] | None = None
    norm_shared: bool | None = None
    residual_shared: bool | None = None
    latent_activation: str = "tanh"
    deposit_width: int | None = None
    loss_weights: dict[str, float] | None = None
    enable_autoencoder: bool = False
    enable_learnable_loss_balancer: bool | None = None
    shared_block_optimizer: Settings = field(default_factory=dict)
    freeze_encoder: bool = False
    train_only: list[str] | None = None
    pretrain: bool | dict[str, float] = False
    graph_encoder: Settings | None = None
    modality_dropout: float = 0.3
    ema: float | None = None
    graph_start: str | None = None
    start: str | None = None


@dataclass(frozen=True)
class CompositionData:
    """Compositions with the labels of their tasks.

    Attributes:
        task_configs: Those of the model, which are taken where this is None.
        descriptor: `kind`, a row of the table of descriptors, and its settings.
        formula_desc_source: Table of descriptors, in place of `descriptor`.
        attributes_source: One table of labels for every task without files of its own; none is needed to predict.
        composition_column: Column of the compositions, for tasks that name none; null for the index of a table.
        split_column: Column of train, val or test, for tasks that name none.
        batch_size: Compositions per micro-batch.
        num_workers: Loader processes.
        val_split: Share of the validation part, of compositions whose part no table states.
        test_split: Share of the test part.
        splits_file: `splits.json` of another run, whose compositions and parts are taken over.
        random_seed: Seed of the split; that of the run if None.
        train_random_seed: The same under its older name.
        test_all: Whether everything is in the test part: to evaluate, not to train.
        task_masking_ratios: Task -> fraction of its training samples; the task's own goes before.
        redraw_masks: Whether each epoch sees other samples of them.
        predict_idx: What `predict` writes, of tasks that name nothing: train, val, test, all, or compositions.
        trust_pickle: Whether pickled tables may be opened.
        source: Where crystals come from, for a graph encoder.
        release: Official release of crystals.
        data_file: Local file of crystals.
        data_dir: Folder of downloads and stores.
    """

    task_configs: list[Settings] | None = None
    descriptor: Settings | None = None
    formula_desc_source: str | None = None
    attributes_source: str | None = None
    composition_column: str | None = "composition"
    split_column: str = "split"
    batch_size: int = 64
    num_workers: int = 0
    val_split: float = 0.1
    test_split: float = 0.1
    splits_file: str | None = None
    random_seed: int | None = None
    train_random_seed: int | None = None
    test_all: bool = False
    task_masking_ratios: dict[str, float] | None = None
    redraw_masks: bool = True
    predict_idx: str | list[str] | None = None
    trust_pickle: bool = False
    source: str = "auto"
    release: str = DEFAULT_RELEASE
    data_file: str | None = None
    data_dir: str = "data"


def composition_config(model: CompositionModel, data: CompositionData, run: Mapping[str, Any]) -> TaskRunConfig:
    """Return the configuration of a run.

    Args:
        model: The network.
        data: Its labels and descriptors.
        run: Further fields: epochs, device, seed and the like.

    Raises:
        UsageError: A name is unknown or values contradict each other.
    """
    optimizer = typed(SharedBlockOptimizer, model.shared_block_optimizer, "model.init_args.shared_block_optimizer")
    if data.source not in SOURCES:
        raise unknown_name("source", data.source, SOURCES)
    tasks = _tasks(model, data)
    encoder, settings = _encoder(model)
    graph_encoder, graph_settings = _typed_settings(model.graph_encoder, "graph_encoder")
    graph = typed(GraphSettings, graph_settings.pop("graph", {}), "model.init_args.graph_encoder.graph")
    alone = model.train_only is not None
    values = {
        "tasks": tuple(_only(tasks, model.train_only) if model.train_only is not None else tasks),
        "descriptor": _descriptor(data),
        "encoder": encoder,
        "encoder_settings": settings,
        "latent_stage": model.latent_activation,
        "deposit_width": model.deposit_width,
        "pretrain": _pretrain(model),
        "graph_encoder": graph_encoder or None,
        "graph_settings": graph_settings,
        "graph": graph,
        "modality_dropout": model.modality_dropout,
        "lr": optimizer.lr,
        "schedule": schedule_named(optimizer.scheduler_type),
        "weight_decay": optimizer.weight_decay,
        "freeze_shared": alone or model.freeze_encoder or bool(optimizer.freeze_parameters),
        "learned_balance": not alone and _balanced(model),
        "ema": model.ema,
        "graph_start": model.graph_start,
        "start": model.start,
        "split_seed": _split_seed(data),
        "workers": data.num_workers,
    }
    values |= {name: getattr(data, name) for name in _SAME}
    return TaskRunConfig(**{**{name: value for name, value in values.items() if value is not None}, **run})


def _tasks(model: CompositionModel, data: CompositionData) -> list[Settings]:
    """Return the tasks of both, complete, as plain values."""
    if None not in (model.task_configs, data.task_configs) and model.task_configs != data.task_configs:
        raise UsageError(
            "the task_configs of model and data differ: leave out those of data, or refer to the model's, "
            "${model.init_args.task_configs}"
        )
    shared = {
        "composition_column": data.composition_column,
        "split_column": data.split_column,
        "predict_idx": data.predict_idx,
    }
    records = [{**shared, **record} for record in model.task_configs or data.task_configs or []]
    if model.enable_autoencoder:
        records.append({"name": AUTOENCODER, "kind": AUTOENCODER})
    specs = parse_tasks(
        records,
        loss_weights=model.loss_weights,
        task_masking_ratios=data.task_masking_ratios,
        attributes_source=data.attributes_source,
        other_losses=PRETRAINING,
    )
    return [spec.as_dict() for spec in specs]


def _only(tasks: list[Settings], names: list[str]) -> list[Settings]:
    """Return the tasks with the heads of all but some frozen."""
    known = [task["name"] for task in tasks]
    for name in names:
        if name not in known:
            raise unknown_name("task in train_only", name, known)
    frozen = {"freeze_parameters": True}
    return [task if task["name"] in names else {**task, "optimizer": {**task["optimizer"], **frozen}} for task in tasks]


def _encoder(model: CompositionModel) -> tuple[str | None, Settings | None]:
    """Return the encoder and its settings; None for those that a run has anyway."""
    older = {name: getattr(model, name) for name in ("shared_block_dims", "norm_shared", "residual_shared")}
    given = [name for name, value in older.items() if value is not None]
    if model.encoder_config is not None:
        if given:
            raise UsageError(f"encoder_config and {given[0]} contradict each other: give encoder_config alone")
        return _typed_settings(model.encoder_config, "encoder_config")
    if model.shared_block_dims is None:
        if given:
            raise UsageError(f"{given[0]} belongs to shared_block_dims: give both, or encoder_config")
        return None, None
    settings: Settings = {"hidden_dims": list(model.shared_block_dims)}
    if model.norm_shared is not None:
        settings["norm"] = "layer" if model.norm_shared else "none"
    if model.residual_shared is not None:
        settings["residual"] = model.residual_shared
    return "mlp", settings


def _typed_settings(settings: Settings | None, where: str) -> tuple[str, Settings]:
    """Return what `type` says, and the other settings."""
    if settings is None:
        return "", {}
    if not isinstance(settings.get("type"), str):
        raise UsageError(f"model.init_args.{where} needs a type")
    return settings["type"], {name: value for name, value in settings.items() if name != "type"}


def _descriptor(data: CompositionData) -> Settings | None:
    if data.formula_desc_source is None:
        return data.descriptor
    if data.descriptor is not None:
        raise UsageError("descriptor and formula_desc_source contradict each other: give one")
    return {"kind": "table", "path": data.formula_desc_source}


def _pretrain(model: CompositionModel) -> dict[str, float]:
    """Return the losses without labels with their weights; where it is only switched on, all that there can be."""
    if isinstance(model.pretrain, dict):
        return dict(model.pretrain)
    terms = () if not model.pretrain else PRETRAINING if model.graph_encoder else (MASKED_FEATURES,)
    return {term: float((model.loss_weights or {}).get(term, 1.0)) for term in terms}


def _balanced(model: CompositionModel) -> bool:
    if model.enable_learnable_loss_balancer is not None:
        return model.enable_learnable_loss_balancer
    return bool(model.loss_weights or model.pretrain)


def _split_seed(data: CompositionData) -> int | None:
    if None not in (data.random_seed, data.train_random_seed) and data.random_seed != data.train_random_seed:
        raise UsageError("random_seed and its older name train_random_seed differ: give one")
    return data.random_seed if data.random_seed is not None else data.train_random_seed
