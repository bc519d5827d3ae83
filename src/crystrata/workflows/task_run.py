"""The run over tasks: from a configuration to a trained and evaluated network of compositions in a run directory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from crystrata.compositions.descriptors import DescriptorSource
from crystrata.datasets.tasks.training_statistics import error_scale
from crystrata.errors import CrystrataError, Interrupted, ModelError, UsageError
from crystrata.files import lock, write_json
from crystrata.networks.task_network import TaskNetwork
from crystrata.prediction.models import load_model
from crystrata.runs.directory import CHECKPOINT, CONFIG, HISTORY, RUN_LOCK, SPLITS, create_run_dir
from crystrata.runs.manifest import end_manifest, read_manifest, start_manifest, update_manifest
from crystrata.runs.seen import trained_on, untold
from crystrata.runs.task_config import TaskRunConfig, schedule_named
from crystrata.training.checkpoints import remove_leftovers
from crystrata.training.extras import NO_EXTRAS, Extras
from crystrata.training.fit import fit, seed_everything
from crystrata.training.freeze import freeze, freeze_all_but_heads
from crystrata.training.module import HeadOptimiser, OptimiserSettings, TrainingModule
from crystrata.training.starting_weights import carry_heads, start_graph_encoder_from, start_tasks_from
from crystrata.training.stopping import StopRequest
from crystrata.workflows.task_evaluation import evaluate_tasks
from crystrata.workflows.task_preparation import PreparedTasks, Tables, build_network, prepare_tasks
from crystrata.workflows.tier_run import device_in_words


def run_tasks(
    config: TaskRunConfig,
    command: list[str],
    console: Console,
    *,
    table: Tables = None,
    source: DescriptorSource | None = None,
    directory: Path | None = None,
    extras: Extras = NO_EXTRAS,
) -> Path:
    """Train and evaluate a new run over tasks; return its directory.

    Args:
        config: The run.
        command: The command line, for the manifest.
        console: Where progress goes.
        table: Labels in memory, in place of files: one table for all tasks, or task -> table.
        source: Descriptors, in place of those that the configuration names.
        directory: Folder that becomes the run directory, in place of a new one of its family.
        extras: What a person adds to the trainer.

    Raises:
        CrystrataError: Data, configuration or storage does not allow it; the manifest then says `failed`.
    """
    device = device_in_words(config.device)
    run = directory or create_run_dir(config.family_dir, config.run_id)
    with StopRequest(console) as stop, lock(run / RUN_LOCK):
        write_json(run / CONFIG, config.as_dict())
        start_manifest(run, config, command, device=device)
        with _recorded(run):
            _carry_out(run, config, prepare_tasks(config, console, table=table, source=source), console, stop, extras)
    return run


def resume_tasks(
    run: Path,
    command: list[str],
    console: Console,
    *,
    epochs: int | None = None,
    table: Tables = None,
    source: DescriptorSource | None = None,
    extras: Extras = NO_EXTRAS,
) -> Path:
    """Continue a run over tasks from its latest checkpoint, with the bits of a run that was never cut.

    Args:
        run: Its directory.
        command: The command line, for the manifest.
        console: Where progress goes.
        epochs: New number of epochs, if another.
        table: Labels in memory, as the run was started with.
        source: Descriptors, as the run was started with.
        extras: What a person adds to the trainer.

    Raises:
        ModelError: The configuration of the run is missing or damaged.
        UsageError: Labels, descriptors or split are no longer those that the run was started with.
    """
    config = saved_task_config(run)
    config = config if epochs is None else replace(config, epochs=epochs)
    with StopRequest(console) as stop, lock(run / RUN_LOCK):
        remove_leftovers(run)
        before, prepared = read_manifest(run), prepare_tasks(config, console, table=table, source=source)
        for words, entry in (("labels", "labels_digest"), ("descriptors", "descriptor"), ("a split", "split")):
            if entry in before and before[entry] != json.loads(json.dumps(prepared.facts[entry])):
                raise UsageError(f"{run} was started with other {words}: give the same tables and descriptors")
        write_json(run / CONFIG, config.as_dict())
        update_manifest(run, status="running", error=None, ended=None, resumed=command, config_digest=config.digest())
        with _recorded(run):
            _carry_out(run, config, prepared, console, stop, extras)
    return run


def saved_task_config(run: Path) -> TaskRunConfig:
    """Return the configuration that a run over tasks was started with.

    Raises:
        ModelError: It is missing, damaged, or of another kind of run.
    """
    try:
        return TaskRunConfig.from_dict(json.loads((run / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, CrystrataError) as error:
        raise ModelError(f"{run / CONFIG} is missing, damaged or no run over tasks: {error}") from None


def build_task_training(
    config: TaskRunConfig, prepared: PreparedTasks, console: Console, *, resume: bool = False
) -> TrainingModule:
    """Return the training of a run: network, optimiser of each block, balance, and what is frozen.

    Args:
        config: The run.
        prepared: Its data.
        console: Where bad steps and the start are told of.
        resume: Whether a checkpoint will bring the weights, so that none are started from.
    """
    network, specs, dataset = build_network(config, prepared), prepared.specs, prepared.data.dataset
    _start(network, config, console, resume=resume)
    settings = OptimiserSettings(
        config.lr,
        config.weight_decay,
        config.clip,
        config.learned_balance,
        weights={**{spec.name: spec.loss_weight for spec in specs}, **config.pretrain},
        heads={
            spec.name: HeadOptimiser(
                float(spec.optimizer.get("lr", config.lr)), schedule_named(spec.optimizer.get("scheduler_type"))
            )
            for spec in specs
            if {"lr", "scheduler_type"} & set(spec.optimizer)
        },
    )
    labels = dataset.training_labels()
    spread = {spec.name: error_scale(spec, labels.get(spec.name)) for spec in specs}
    task = TrainingModule(network, settings, spread, dataset.ids, console)
    frozen = {spec.name for spec in specs if spec.optimizer.get("freeze_parameters")}
    if config.freeze_shared:
        freeze_all_but_heads(network, [spec.name for spec in specs if spec.name not in frozen])
    for name in frozen:
        freeze(network.head(name))
    return task


def _start(network: TaskNetwork, config: TaskRunConfig, console: Console, *, resume: bool) -> None:
    """Take over the weights that a run starts from, and heads that it carries along."""
    if config.start and not resume:
        shared = start_tasks_from(network, Path(config.start))
        console.print(
            f"shared part from {config.start}, and {len(shared)} of {len(config.tasks)} heads", soft_wrap=True
        )
    if config.start and config.carry_heads:
        carry_heads(network, Path(config.start))
    if config.graph_start and not resume:
        start_graph_encoder_from(network, load_model(Path(config.graph_start), "cpu").network)


def _tell_of_seen(source: Path, prepared: PreparedTasks, console: Console) -> None:
    """Warn where weights to start from were trained on what is tested here: tables of another kind may be meant."""
    seen, data = trained_on(source), prepared.data
    if seen is None:
        told = untold(source)
    else:
        tested = [data.dataset.ids[row] for row in data.split.test]
        count = len(seen.intersection(tested))
        told = (
            f"{count} of {len(tested)} compositions of the test part were trained on by {source}: the figures flatter; "
            "take over its split (splits_file), or start anew"
        )
        if not count:
            return
    console.print(f"warning: {told}", style="yellow", soft_wrap=True)


def _carry_out(
    run: Path,
    config: TaskRunConfig,
    prepared: PreparedTasks,
    console: Console,
    stop: StopRequest,
    extras: Extras,
) -> None:
    started, going_on = time.perf_counter(), (run / CHECKPOINT).is_file()
    write_json(run / SPLITS, prepared.data.split.as_dict(list(prepared.data.dataset.ids)))
    update_manifest(run, **prepared.facts)
    sizes = ", ".join(f"{count} {part}" for part, count in prepared.facts["compositions"].items())
    console.print(f"{config.encoder}, {len(prepared.specs)} tasks; {sizes} compositions; {config.epochs} epochs")
    seed_everything(config.seed)
    for source in (config.start, config.graph_start):
        if source and not going_on:
            _tell_of_seen(Path(source), prepared, console)
    task = build_task_training(config, prepared, console, resume=going_on)
    facts = prepared.facts
    fit(task, config, prepared.data, run, facts=facts, console=console, stop=stop, resume=going_on, extras=extras)
    history = json.loads((run / HISTORY).read_text(encoding="utf-8"))
    results = evaluate_tasks(run, config.device, prepared, history)
    wall_hours = (time.perf_counter() - started) / 3600
    end_manifest(run, "completed", best_epoch=results["best_epoch"], hours=results["hours"], wall_hours=wall_hours)
    console.print(f"Run directory: {run}", soft_wrap=True)


@contextmanager
def _recorded(run: Path) -> Iterator[None]:
    """Write into the manifest how a run failed, if it does."""
    try:
        yield
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt | Interrupted) else "failed"
        end_manifest(run, status, error=f"{type(error).__name__}: {error}")
        raise
