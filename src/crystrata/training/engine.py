"""The engine: one function that trains a task on a data module, for every door."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from rich.console import Console

from crystrata.datasets.data_module import CrystalDataModule
from crystrata.errors import TrainingError
from crystrata.files import storage_errors
from crystrata.networks.device import resolve_device
from crystrata.networks.multitask import MultiTaskNetwork, NetworkConfig
from crystrata.properties import get_property
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import CHECKPOINT, LOGS
from crystrata.training.artifacts import RunArtifacts
from crystrata.training.averaging import MovingAverage
from crystrata.training.checkpoints import AtomicCheckpointIO
from crystrata.training.progress import TrainingProgress
from crystrata.training.schedule import LearningRate
from crystrata.training.task import MultiTaskTraining, OptimiserSettings

_LIGHTNING_NOISE = (
    ".*does not have many workers.*",
    ".*The number of training batches.*",
    ".*Checkpoint directory.*",
    ".*`isinstance.treespec, LeafSpec.`.*",
    ".*GPU available but not used.*",
)


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


def train(
    config: RunConfig, data: CrystalDataModule, run: Path, *, facts: dict[str, Any], console: Console, resume: bool
) -> None:
    """Train the network of a run, or continue from its checkpoint; its directory then holds history and weights.

    Args:
        config: The run.
        data: Its crystals and split.
        run: Its directory.
        facts: Plain values saved beside the best weights.
        console: Where progress goes.
        resume: Whether to continue from `checkpoint.pt`.

    Raises:
        TrainingError: No epoch gave a finite score.
    """
    seed_everything(config.seed)
    targets = data.dataset.targets[data.split.train]
    network = MultiTaskNetwork(network_config(config))
    network.fit_scaling(torch.from_numpy(targets), data.dataset.fractions(data.split.train))
    settings = OptimiserSettings(
        config.lr,
        config.weight_decay,
        config.accumulate,
        config.learned_balance,
        emphasis=dict(zip(config.trained_properties, label_share(targets).tolist(), strict=True)),
    )
    spread = dict(zip(config.trained_properties, label_spread(targets).tolist(), strict=True))
    task = MultiTaskTraining(network, settings, spread)
    data.angles = network.encoder.needs_angles
    average = MovingAverage(config.ema)
    artifacts = RunArtifacts(run, average, facts, config.patience)
    rate = LearningRate(config.schedule, config.lr, patience=max(2, config.patience // 2))
    trainer = _trainer(config, run, [average, rate, TrainingProgress(console), artifacts])
    with warnings.catch_warnings(), storage_errors(run), denormals_flushed():
        for message in _LIGHTNING_NOISE:
            warnings.filterwarnings("ignore", message)
        try:
            trainer.fit(task, datamodule=data, ckpt_path=str(run / CHECKPOINT) if resume else None, weights_only=True)
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
    if artifacts.best_epoch < 0:
        raise TrainingError("no epoch gave a finite validation score: lower --lr or look at the labels")


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


def _trainer(config: RunConfig, run: Path, callbacks: list[L.Callback]) -> L.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return L.Trainer(
        accelerator="gpu" if resolve_device(config.device).type == "cuda" else "cpu",
        devices=1,
        max_epochs=config.epochs,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.clip,
        callbacks=callbacks,
        logger=_loggers(run),
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
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
