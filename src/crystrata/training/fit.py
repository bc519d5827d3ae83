"""From a configuration and data to a trained network: the module is built, and carried through its epochs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from rich.console import Console

from crystrata.datasets.data_module import BatchDataModule
from crystrata.errors import TrainingError, UsageError
from crystrata.files import storage_errors
from crystrata.networks.config import NetworkConfig
from crystrata.networks.device import resolve_device
from crystrata.networks.encoders.composition import HIDDEN_DIMS
from crystrata.networks.network import Network
from crystrata.networks.training_record import TrainingRecord
from crystrata.presets import schedule_named
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import CHECKPOINT, LOGS
from crystrata.training.artifacts import RunArtifacts
from crystrata.training.callbacks import LearningRate, MovingAverage, TrainingProgress
from crystrata.training.checkpoints import AtomicCheckpointIO, newest_sound
from crystrata.training.compiling import compile_encoder
from crystrata.training.module import HeadOptimizer, OptimizerSettings, TrainingModule
from crystrata.training.starting_weights import (
    carry_heads,
    freeze,
    freeze_all_but_heads,
    read_start,
    start_from,
    start_structure_encoder_from,
)
from crystrata.training.stopping import StopRequest

_LIGHTNING_NOISE = (
    ".*does not have many workers.*",
    ".*The number of training batches.*",
    ".*Checkpoint directory.*",
    ".*resuming from a checkpoint that ended before the epoch ended.*",  # the order is a function of the step
    ".*`isinstance.treespec, LeafSpec.`.*",
    ".*GPU available but not used.*",
    ".*module\\(s\\) in eval mode at the start of training.*",  # frozen parts are meant to be
)


@dataclass(frozen=True)
class Extras:
    """Callbacks and loggers beside those of every run.

    Attributes:
        callbacks: Called after our own.
        loggers: Fed beside the logs of the run.
        own_logs: Whether the run keeps its own logs, CSV and TensorBoard.
    """

    callbacks: Sequence[L.Callback] = ()
    loggers: Sequence[Logger] = ()
    own_logs: bool = True


NO_EXTRAS = Extras()


def build(config: RunConfig, data: BatchDataModule, console: Console, *, resume: bool = False) -> TrainingModule:
    """Return the module of a run: its network, scaled on the training labels, optimizer, task weights, what is frozen.

    Args:
        config: The run.
        data: Its materials and split; given what the network reads of the graphs.
        console: Where bad steps and the start are reported.
        resume: Whether a checkpoint will bring the weights, so that none are started from.

    Raises:
        UsageError: A setting is unknown or does not fit.
    """
    seed_everything(config.seed)
    dataset, train = data.dataset, data.split.train
    network = Network(network_config(config, data))
    targets = dataset.training_targets()
    network.fit_scaling(
        targets,
        fractions=dataset.fractions(train) if network.config.reads_crystals_alone else None,
        descriptors=None if dataset.descriptors is None else torch.from_numpy(dataset.descriptors[train]),
    )
    _start(network, config, console, resume=resume)
    tasks = dataset.tasks
    settings = OptimizerSettings(
        config.lr,
        config.weight_decay,
        config.clip,
        config.learned_balance,
        emphasis=label_shares(data) if config.weigh_by_labels else None,
        weights={**{task.name: task.loss_weight for task in tasks}, **config.self_supervised},
        heads={
            task.name: HeadOptimizer(
                float(task.optimizer.get("lr", config.lr)), schedule_named(task.optimizer.get("scheduler_type"))
            )
            for task in tasks
            if {"lr", "scheduler_type"} & set(task.optimizer)
        },
        name=config.optimizer,
    )
    scales = {name: network.head(name).error_scale(labels) for name, labels in targets.items()}
    scales |= {task.name: 1.0 for task in tasks if task.name not in targets}
    data.form = network.training_form
    module = TrainingModule(network, settings, scales, dataset.ids, console)
    frozen = {task.name for task in tasks if task.optimizer.get("freeze_parameters")}
    if config.freeze_shared:
        freeze_all_but_heads(network, [task.name for task in tasks if task.name not in frozen])
    for name in frozen:
        freeze(network.head(name))
    if config.compiled:
        compile_encoder(module.to(resolve_device(config.device)), data, console)
    return module


def network_config(config: RunConfig, data: BatchDataModule) -> NetworkConfig:
    """Return what the network of a run is made of."""
    descriptors = data.dataset.descriptors
    return NetworkConfig(
        tasks=data.dataset.tasks,
        structure=config.structure,
        structure_settings=dict(config.structure_settings),
        graph=config.graph,
        composition=config.composition,
        composition_settings={} if descriptors is None else _with_input_width(config, descriptors.shape[1]),
        latent_stage=config.latent_stage,
        deposit_width=config.deposit_width,
        modality_dropout=config.modality_dropout,
        self_supervised=tuple(config.self_supervised),
    )


def _with_input_width(config: RunConfig, width: int) -> dict[str, Any]:
    """Return the settings of the composition encoder with the width of the descriptor where None stands for it."""
    settings = dict(config.composition_settings)
    if config.composition == "mlp":
        settings.setdefault("hidden_dims", HIDDEN_DIMS)
    if "hidden_dims" in settings:
        if not isinstance(settings["hidden_dims"], list | tuple) or not settings["hidden_dims"]:
            raise UsageError(f"hidden_dims of the encoder must be a list of widths, not {settings['hidden_dims']!r}")
        first, *rest = settings["hidden_dims"]
        given, settings["hidden_dims"] = first, [width, *rest]
    else:
        given = settings.get("input_dim")
        settings["input_dim"] = width
    if given not in (None, width):
        raise UsageError(f"the encoder is set to read {given} numbers, but a descriptor has {width}")
    return settings


def label_shares(data: BatchDataModule) -> dict[str, float]:
    """Return the square root of the share of training materials that are labelled, by task."""
    known, train = data.dataset.known, data.split.train
    return {name: float(np.sqrt(there[train].mean())) for name, there in known.items()}


def _start(network: Network, config: RunConfig, console: Console, *, resume: bool) -> None:
    """Take over the weights that a run starts from, and heads that it carries along."""
    if config.start:
        trained, _ = read_start(Path(config.start))
        if not resume:
            shared = start_from(network, trained, config.start)
            console.print(
                f"encoder from {config.start}, and {len(shared)} of {len(network.tasks)} heads", soft_wrap=True
            )
        if config.carry_heads:
            carry_heads(network, trained)
    if config.structure_start and not resume:
        trained, _ = read_start(Path(config.structure_start))
        start_structure_encoder_from(network, trained, config.structure_start)


def fit(
    module: TrainingModule,
    config: RunConfig,
    data: BatchDataModule,
    run: Path,
    *,
    facts: dict[str, Any],
    record: TrainingRecord,
    console: Console,
    stop: StopRequest,
    resume: bool,
    extras: Extras = NO_EXTRAS,
) -> None:
    """Carry a module through its epochs, from its checkpoint on where there is one; history and best weights are left.

    Args:
        module: See `build`.
        config: The run.
        data: Its materials and split.
        run: Its directory.
        facts: Plain values saved beside the best weights.
        record: What the weights are trained on, saved beside them too.
        console: Where progress goes.
        stop: Signals that ask to stop between two steps.
        resume: Whether to continue from `checkpoint.pt`, or the one before where that is damaged.
        extras: What a person adds to the trainer.

    Raises:
        Interrupted: A signal came; the checkpoint holds all steps but at most the last one of an epoch.
        ModelError: No checkpoint to continue from is whole.
        TrainingError: No epoch gave a finite score.
    """
    average = MovingAverage(config.ema)
    artifacts = RunArtifacts(
        run, average, facts, record, stop, patience=config.patience, top_k=config.top_k, hours=config.time_budget
    )
    rate = LearningRate(config.schedule, config.lr, patience=max(2, config.patience // 2))
    shown = [TrainingProgress(console)] if config.trainer.enable_progress_bar is not False else []
    trainer = _trainer(config, run, [average, rate, *shown, artifacts], extras)
    checkpoint = _checkpoint_to_continue(run, console) if resume else None
    with warnings.catch_warnings(), storage_errors(run), denormals_flushed():
        for message in _LIGHTNING_NOISE:
            warnings.filterwarnings("ignore", message)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if artifacts.best_epoch < 0:
        raise TrainingError("no epoch gave a finite validation score: lower --lr or look at the labels")


def _checkpoint_to_continue(run: Path, console: Console) -> str:
    checkpoint, wrong = newest_sound(run / CHECKPOINT)
    for line in wrong:
        console.print(f"warning: {line}; continuing from {checkpoint.name}", style="yellow", soft_wrap=True)
    return str(checkpoint)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take denormal numbers for zero: the tails of Gaussian bases are denormal and slow the backward products fivefold.

    The setting belongs to the process; it is put back to the standard afterwards.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def seed_everything(seed: int) -> None:
    """Seed the generators that weights and workers draw from."""
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    L.seed_everything(seed, workers=True, verbose=False)


def _trainer(config: RunConfig, run: Path, callbacks: list[L.Callback], extras: Extras) -> L.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    plugins: list[Any] = [AtomicCheckpointIO(config.keep_last)]
    if SLURMEnvironment.detect():  # Lightning's requeue would end the job before manifest and checkpoint are written
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return L.Trainer(
        accelerator="gpu" if resolve_device(config.device).type == "cuda" else "cpu",
        devices=1,
        max_epochs=config.epochs,
        callbacks=[*callbacks, *extras.callbacks],
        logger=[*(_loggers(run) if extras.own_logs else ()), *extras.loggers],
        plugins=plugins,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in extras.callbacks),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=run,
        **{"enable_model_summary": False, **config.trainer.given(), "enable_progress_bar": False},
    )


def _loggers(run: Path) -> list[Logger]:
    """Return CSV and TensorBoard loggers; a resumed run logs into a part of its own, so that nothing is lost."""
    part = f"part_{len(list((run / LOGS).glob('part_*'))) + 1}"
    return [CSVLogger(run, name=LOGS, version=part), TensorBoardLogger(run, name=LOGS, version=part)]
