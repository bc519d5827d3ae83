"""The engine: one function that trains a task on a data module, for every door."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from rich.console import Console

from crystrata.datasets.data_module import BatchDataModule
from crystrata.datasets.dataset import CrystalPropertyDataset
from crystrata.errors import TrainingError
from crystrata.files import storage_errors
from crystrata.networks.device import resolve_device
from crystrata.networks.multitask import MultiTaskNetwork, NetworkConfig
from crystrata.presets import Schedule
from crystrata.properties import get_property
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import CHECKPOINT, LOGS
from crystrata.training.artifacts import RunArtifacts
from crystrata.training.averaging import MovingAverage
from crystrata.training.checkpoints import AtomicCheckpointIO, newest_sound
from crystrata.training.compiling import compile_encoder
from crystrata.training.extras import NO_EXTRAS, Extras
from crystrata.training.module import OptimiserSettings, TrainingModule
from crystrata.training.progress import TrainingProgress
from crystrata.training.schedule import LearningRate
from crystrata.training.starting_weights import start_from
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


class FitConfig(Protocol):
    """What the training of any task asks of a configuration; see `RunConfig`."""

    @property
    def epochs(self) -> int: ...

    @property
    def lr(self) -> float: ...

    @property
    def schedule(self) -> Schedule: ...

    @property
    def ema(self) -> float: ...

    @property
    def patience(self) -> int: ...

    @property
    def top_k(self) -> int: ...

    @property
    def keep_last(self) -> int: ...

    @property
    def time_budget(self) -> float | None: ...

    @property
    def device(self) -> str: ...


def network_config(config: RunConfig) -> NetworkConfig:
    """Return the network of a run; every kind of head is named, so that weights outlive a change of defaults."""
    return NetworkConfig(
        config.encoder,
        config.trained_properties,
        dict(config.encoder_settings),
        config.graph,
        heads={name: config.heads.get(name, get_property(name).head) for name in config.trained_properties},
    )


def label_spread(targets: np.ndarray) -> np.ndarray:
    """Return the mean absolute deviation from the mean of known labels (n, P): their MAD, (P,); 1 if zero."""
    spread = np.nanmean(np.abs(targets - np.nanmean(targets, axis=0)), axis=0)
    return np.where(spread > 0, spread, 1.0)  # labels that are all equal


def label_share(targets: np.ndarray) -> np.ndarray:
    """Return the square root of the share of crystals that are labelled, (P,), from labels (n, P): the emphasis."""
    return np.sqrt(np.isfinite(targets).mean(axis=0))


def build_task(config: RunConfig, data: BatchDataModule[CrystalPropertyDataset], console: Console) -> TrainingModule:
    """Return the task of a run: its network, scaled on the training labels, with optimiser settings and balance.

    Args:
        config: The run.
        data: Its crystals and split; told what the network reads of the graphs.
        console: Where bad steps are told of.
    """
    targets = data.dataset.targets[data.split.train]
    network = MultiTaskNetwork(network_config(config))
    network.fit_scaling(torch.from_numpy(targets), data.dataset.fractions(data.split.train))
    settings = OptimiserSettings(
        config.lr,
        config.weight_decay,
        config.clip,
        config.learned_balance,
        emphasis=dict(zip(config.trained_properties, label_share(targets).tolist(), strict=True)),
    )
    spread = dict(zip(config.trained_properties, label_spread(targets).tolist(), strict=True))
    data.form = network.training_form
    return TrainingModule(network, settings, spread, data.dataset.ids, console)


def train(
    config: RunConfig,
    data: BatchDataModule[CrystalPropertyDataset],
    run: Path,
    *,
    facts: dict[str, Any],
    console: Console,
    stop: StopRequest,
    resume: bool,
    extras: Extras = NO_EXTRAS,
) -> None:
    """Train the network of a run, or continue from its checkpoint; its directory then holds history and weights.

    Args:
        config: The run.
        data: Its crystals and split.
        run: Its directory.
        facts: Plain values saved beside the best weights.
        console: Where progress goes.
        stop: Signals that ask to stop between two steps.
        resume: Whether to continue from `checkpoint.pt`, or the one before where that is damaged.
        extras: What a person adds to the trainer.

    Raises:
        Interrupted: A signal came; the checkpoint holds all steps but at most the last one of an epoch.
        ModelError: No checkpoint to continue from is whole.
        TrainingError: No epoch gave a finite score.
    """
    seed_everything(config.seed)
    task = build_task(config, data, console)
    if config.start and not resume:
        shared = start_from(cast(MultiTaskNetwork, task.network), Path(config.start))
        console.print(f"encoder from {config.start}, and {len(shared)} of {len(config.trained_properties)} heads")
    if config.compiled:
        compile_encoder(task.to(resolve_device(config.device)), data, console)
    fit(task, config, data, run, facts=facts, console=console, stop=stop, resume=resume, extras=extras)


def fit(
    task: TrainingModule,
    config: FitConfig,
    data: BatchDataModule[Any],
    run: Path,
    *,
    facts: dict[str, Any],
    console: Console,
    stop: StopRequest,
    resume: bool,
    extras: Extras = NO_EXTRAS,
) -> None:
    """Carry out the training of any task on any data; arguments and errors as in `train`."""
    average = MovingAverage(config.ema)
    artifacts = RunArtifacts(
        run, average, facts, stop, patience=config.patience, top_k=config.top_k, hours=config.time_budget
    )
    rate = LearningRate(config.schedule, config.lr, patience=max(2, config.patience // 2))
    trainer = _trainer(config, run, [average, rate, TrainingProgress(console), artifacts], extras)
    checkpoint = _checkpoint_to_continue(run, console) if resume else None
    with warnings.catch_warnings(), storage_errors(run), denormals_flushed():
        for message in _LIGHTNING_NOISE:
            warnings.filterwarnings("ignore", message)
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
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


def _trainer(config: FitConfig, run: Path, callbacks: list[L.Callback], extras: Extras) -> L.Trainer:
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
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=50,
        use_distributed_sampler=False,
        default_root_dir=run,
    )


def _loggers(run: Path) -> list[Logger]:
    """Return CSV and TensorBoard loggers; a resumed run logs into a part of its own, so that nothing is lost."""
    part = f"part_{len(list((run / LOGS).glob('part_*'))) + 1}"
    return [CSVLogger(run, name=LOGS, version=part), TensorBoardLogger(run, name=LOGS, version=part)]
