"""The tier run: from a configuration to a trained, evaluated and documented model in a run directory."""

from __future__ import annotations

import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from crystrata.errors import Interrupted, StorageError, UsageError
from crystrata.files import lock, write_json, write_text
from crystrata.networks.device import resolve_device
from crystrata.reports.tables import terminal_official, terminal_table
from crystrata.runs.config import RunConfig, mode_in_words
from crystrata.runs.directory import CHECKPOINT, CONFIG, HISTORY, OUTLIERS, RUN_LOCK, SPLITS, create_run_dir
from crystrata.runs.manifest import end_manifest, read_manifest, start_manifest, update_manifest
from crystrata.runs.registry import register_run
from crystrata.runs.seen import seen_before, trained_on, untold
from crystrata.training.checkpoints import remove_leftovers
from crystrata.training.estimate import Estimate, estimate
from crystrata.training.extras import NO_EXTRAS, Extras
from crystrata.training.fit import train
from crystrata.training.stopping import StopRequest
from crystrata.workflows.evaluation import evaluate_run
from crystrata.workflows.preparation import PreparedData, prepare_data
from crystrata.workflows.resumable import saved_config


def run_tier(config: RunConfig, command: list[str], console: Console, extras: Extras = NO_EXTRAS) -> Path:
    """Train, evaluate and document a new run; return its directory.

    Args:
        config: The run.
        command: The command line, for the manifest.
        console: Where progress goes.
        extras: What a person adds to the trainer.

    Raises:
        CrystrataError: Data, configuration or storage does not allow it; the manifest then says `failed`.
    """
    device = device_in_words(config.device)
    run = create_run_dir(config.family_dir, config.run_id)
    with StopRequest(console) as stop, lock(run / RUN_LOCK):
        write_json(run / CONFIG, config.as_dict())
        start_manifest(run, config, command, device=device)
        return _carry_out(run, config, console, stop, extras=extras)


def resume_tier(run: Path, config: RunConfig, command: list[str], console: Console, extras: Extras = NO_EXTRAS) -> Path:
    """Continue a run from its latest checkpoint; one that had finished is only evaluated and documented again.

    A run that another process is still carrying out is waited for, never written by two.

    Args:
        run: Directory of the run.
        config: Its saved configuration, with a new number of epochs if one was asked for.
        command: The command line, for the manifest.
        console: Where progress goes.
        extras: What a person adds to the trainer.

    Raises:
        UsageError: The crystals or the split are no longer those that the run was started with.
    """
    device = device_in_words(config.device)
    with StopRequest(console) as stop, lock(run / RUN_LOCK):
        remove_leftovers(run)
        before, saved = read_manifest(run), saved_config(run)
        seen = seen_before(run) if (run / SPLITS).is_file() else _seen_by_start(config, console)
        prepared = prepare_data(config, console, seen=seen)
        require_same_data(run, before, prepared)
        as_before = (config.epochs, config.patience) == (saved.epochs, saved.patience)
        finished = before["status"] == "completed" and as_before
        write_json(run / CONFIG, config.as_dict())
        computed_on = before.get("device") if finished else device
        update_manifest(
            run, status="running", error=None, ended=None, resumed=command, config_digest=config.digest(),
            device=computed_on,
        )  # fmt: skip
        return _carry_out(run, config, console, stop, prepared, finished=finished, extras=extras)


def device_in_words(name: str) -> str:
    """Return the name of the GPU, or of the processor with its cores, that `--device` takes.

    Raises:
        CrystrataError: There is no such device.
    """
    if resolve_device(name).type == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()} CPU, {os.cpu_count()} cores"


def require_same_data(run: Path, before: dict[str, Any], prepared: PreparedData) -> None:
    """Refuse data that are not those of a run.

    Args:
        run: Its directory.
        before: Its manifest.
        prepared: The data.

    Raises:
        UsageError: Crystals, labels or split are others.
    """
    digests = {
        "crystals": lambda facts: facts["source"]["digest"],
        "a split": lambda facts: facts["split"]["digest"],
        "labels": lambda facts: facts["labels_digest"],
    }
    for words, digest in digests.items():
        if "labels_digest" in before and digest(before) != digest(prepared.facts):
            raise UsageError(
                f"{run} was started with other {words} ({before['source']['name']}): name the same source and file"
            )


def _carry_out(
    run: Path,
    config: RunConfig,
    console: Console,
    stop: StopRequest,
    resumed: PreparedData | None = None,
    *,
    finished: bool = False,
    extras: Extras = NO_EXTRAS,
) -> Path:
    """Train (unless finished), evaluate, document; `resumed` is the data of a run that is continued."""
    started = time.perf_counter()
    try:
        results = _train_and_evaluate(run, config, console, stop, resumed, finished=finished, extras=extras)
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt | Interrupted) else "failed"
        end_manifest(run, status, error=f"{type(error).__name__}: {error}")
        with suppress(StorageError):  # what went wrong first is what the user must read
            register_run(run, config)
        raise
    end_manifest(run, "completed", hours=results["hours"], wall_hours=(time.perf_counter() - started) / 3600)
    register_run(run, config)
    console.print(terminal_table(results))
    if results["official_tests"]:
        console.print(terminal_official(results))
    console.print(f"Run directory: {run}", soft_wrap=True)
    return run


def _train_and_evaluate(
    run: Path,
    config: RunConfig,
    console: Console,
    stop: StopRequest,
    resumed: PreparedData | None,
    *,
    finished: bool,
    extras: Extras,
) -> dict[str, Any]:
    prepared = resumed or prepare_data(config, console, seen=_seen_by_start(config, console))
    if config.time_budget is not None and not (run / CHECKPOINT).is_file():
        config = _fitted(config, config.time_budget, prepared, console)
        write_json(run / CONFIG, config.as_dict())
    write_json(run / SPLITS, prepared.data.split.as_dict(prepared.data.dataset.ids))
    write_text(run / OUTLIERS, prepared.outliers.table.to_csv(index=False, float_format="%.6g"))
    update_manifest(run, **prepared.facts)
    _announce(config, prepared.facts, console)
    if not finished:
        facts, going_on = prepared.weights_facts(config), (run / CHECKPOINT).is_file()
        train(config, prepared.data, run, facts=facts, console=console, stop=stop, resume=going_on, extras=extras)
    history = json.loads((run / HISTORY).read_text(encoding="utf-8"))
    with console.status("evaluating"):
        results = evaluate_run(run, config, prepared, history)
    update_manifest(run, best_epoch=results["best_epoch"], score=results["score"])
    return results


def _seen_by_start(config: RunConfig, console: Console) -> set[str]:
    seen = trained_on(Path(config.start)) if config.start else set()
    if seen is None:
        console.print(f"warning: {untold(Path(str(config.start)))}", style="yellow", soft_wrap=True)
    return seen or set()


def _fitted(config: RunConfig, hours: float, prepared: PreparedData, console: Console) -> RunConfig:
    """Return the configuration with as many epochs as fit into some hours, and no more than it asks for."""
    with console.status("timing some steps"):
        found = estimate(config, prepared.data, console)
    epochs = min(config.epochs, found.epochs_within(hours))
    console.print(f"{found.epoch_seconds:.0f} s an epoch: {epochs} of {config.epochs} epochs in {hours:g} h")
    return replace(config, epochs=epochs)


def estimate_tier(config: RunConfig, console: Console) -> Estimate:
    """Time some steps of a run and print what it would take; nothing but the graph store is written.

    Raises:
        CrystrataError: Data or configuration do not allow the run.
    """
    prepared = prepare_data(config, console, seen=_seen_by_start(config, console))
    _announce(config, prepared.facts, console)
    with console.status("timing some steps"):
        found = estimate(config, prepared.data, console)
    console.print(f"step           {1000 * found.step_seconds:.1f} ms, {found.steps} in an epoch")
    console.print(f"epoch          {found.epoch_seconds:.0f} s with its validation")
    console.print(f"training       {found.hours(config.epochs):.3g} h for {config.epochs} epochs")
    if found.peak_bytes is not None:
        console.print(f"peak memory    {found.peak_bytes / 2**30:.2f} GiB in the heaviest micro-batch")
    return found


def _announce(config: RunConfig, facts: dict[str, Any], console: Console) -> None:
    sizes = ", ".join(f"{count} {part}" for part, count in facts["crystals"].items())
    source = facts["source"]["name"] + (" (DEMO: labels are not DFT)" if facts["source"]["demo"] else "")
    console.print(
        f"{config.algorithm}, {mode_in_words(config.mode)}, {len(config.properties)} properties; "
        f"{source}: {sizes} crystals; {config.epochs} epochs of batches of {config.batch_size}",
    )
