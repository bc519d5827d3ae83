"""The story of every run: from a configuration to a trained, evaluated and documented model in a run directory."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from rich.console import Console

from crystrata.errors import Interrupted, ModelError, StorageError, UsageError
from crystrata.files import lock, read_json, write_json, write_text
from crystrata.networks.device import one_thread, resolve_device
from crystrata.networks.training_record import TrainingRecord
from crystrata.reports.tables import print_tables
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import (
    CHECKPOINT,
    CONFIG,
    HISTORY,
    OUTLIERS,
    REJECTED,
    RUN_LOCK,
    SPLITS,
    create_run_dir,
    require_free,
)
from crystrata.runs.find import require_epochs, saved_config
from crystrata.runs.manifest import end_manifest, read_manifest, start_manifest, update_manifest
from crystrata.runs.registry import register_run
from crystrata.training.checkpoints import remove_leftovers
from crystrata.training.estimate import Estimate, estimate
from crystrata.training.fit import NO_EXTRAS, Extras, build, fit
from crystrata.training.module import TrainingModule
from crystrata.training.starting_weights import read_start
from crystrata.training.stopping import StopRequest
from crystrata.workflows.evaluate import evaluate_run
from crystrata.workflows.prepare import Prepared, prepare
from crystrata.workflows.run_log import RunLog
from crystrata.workflows.sources import NO_INPUTS, Inputs


def run(
    config: RunConfig, command: list[str], console: Console, *, inputs: Inputs = NO_INPUTS, extras: Extras = NO_EXTRAS,
    directory: Path | None = None,
) -> Path:  # fmt: skip
    """Train, evaluate and document a new run; return its directory.

    Args:
        config: The run.
        command: The command line, for the manifest.
        console: Where progress goes.
        inputs: Labels and descriptors in memory, in place of those that the configuration names.
        extras: Callbacks and loggers added to the trainer.
        directory: Folder that becomes the run directory, in place of a new one of its family.

    Raises:
        CrystrataError: Data, configuration or storage does not allow it. Before the first step nothing is left behind;
            after it, the manifest says `failed`.
    """
    device = device_in_words(config.device)
    if directory is None:
        require_free(config.family_dir, config.run_id)
    with StopRequest(console) as stop, RunLog(console) as log, one_thread():
        earlier = _earlier(config, console)
        prepared = prepare(config, console, inputs=inputs, earlier=earlier)
        config = _fitted(config, prepared, console)
        _announce(config, prepared.facts, console)
        module = build(config, prepared.data, console)
        path = directory or create_run_dir(config.family_dir, config.run_id)
        with lock(path / RUN_LOCK):
            write_json(path / CONFIG, config.as_dict())
            start_manifest(path, config, command, device=device, **prepared.facts)
            log.open(path, command)
            with _recorded(path, config, console) as results:
                _write_data(path, prepared)
                _train(path, module, config, prepared, console, stop, earlier, extras)
                results |= _evaluate(path, config, prepared, console, earlier)
    return path


def resume(
    path: Path, config: RunConfig, command: list[str], console: Console, *, inputs: Inputs = NO_INPUTS,
    extras: Extras = NO_EXTRAS,
) -> Path:  # fmt: skip
    """Continue a run from its latest checkpoint, bit for bit as an uninterrupted run; return its directory.

    A finished run is only evaluated and documented again. A run that another process is still carrying out is waited
    for, never written by two. The configuration is the saved one, with a new number of epochs if one was asked for;
    other arguments are as those of `run`.

    Raises:
        UsageError: Materials, labels or split are no longer those that the run was started with, or fewer epochs are
            asked for than the run has; nothing is written then.
    """
    device = device_in_words(config.device)
    require_epochs(path, config)
    with StopRequest(console) as stop, lock(path / RUN_LOCK), RunLog(console) as log, one_thread():
        remove_leftovers(path)
        before, saved = read_manifest(path), saved_config(path)
        earlier = _earlier(config, console)
        prepared = prepare(config, console, inputs=inputs, earlier=earlier)
        require_same_data(path, before, prepared)
        as_before = (config.epochs, config.patience) == (saved.epochs, saved.patience)
        finished = before["status"] == "completed" and as_before
        going_on = (path / CHECKPOINT).is_file()
        config = config if going_on else _fitted(config, prepared, console)
        _announce(config, prepared.facts, console)
        module = None if finished else build(config, prepared.data, console, resume=going_on)
        log.open(path, command)
        write_json(path / CONFIG, config.as_dict())
        computed_on = before.get("device") if finished else device
        update_manifest(
            path, status="running", error=None, ended=None, resumed=command, config_digest=config.digest(),
            device=computed_on, **prepared.facts,
        )  # fmt: skip
        with _recorded(path, config, console) as results:
            _write_data(path, prepared)
            if module is not None:
                _train(path, module, config, prepared, console, stop, earlier, extras, going_on=going_on)
            results |= _evaluate(path, config, prepared, console, earlier)
    return path


def estimate_run(config: RunConfig, console: Console, inputs: Inputs = NO_INPUTS) -> Estimate:
    """Time some steps of a run and print what it would take; nothing but the graph store is written."""
    prepared = prepare(config, console, inputs=inputs, earlier=_earlier(config, console))
    _announce(config, prepared.facts, console)
    with console.status("timing some steps"):
        found = estimate(config, prepared.data, console)
    console.print(f"step           {1000 * found.step_seconds:.1f} ms, {found.steps} in an epoch")
    console.print(f"epoch          {found.epoch_seconds:.0f} s with its validation")
    console.print(f"training       {found.hours(config.epochs):.3g} h for {config.epochs} epochs")
    if found.peak_bytes is not None:
        console.print(f"peak memory    {found.peak_bytes / 2**30:.2f} GiB in the heaviest micro-batch")
    return found


def device_in_words(name: str) -> str:
    """Return the name of the GPU, or of the processor with its cores, that `--device` takes."""
    if resolve_device(name).type == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()} CPU, {os.cpu_count()} cores"


def require_same_data(path: Path, before: dict[str, Any], prepared: Prepared) -> None:
    """Refuse materials, descriptors, split or labels other than those of a run, which its manifest `before` names."""
    if "labels_digest" not in before:
        return
    name, facts = before["source"]["name"], prepared.facts
    for words, old, new in (
        ("other materials", before["source"]["digest"], facts["source"]["digest"]),
        ("other descriptors", before.get("descriptor"), facts.get("descriptor")),
        ("other labels", before["labels_digest"], facts["labels_digest"]),
        ("another split", before["split"]["digest"], facts["split"]["digest"]),
    ):
        if old != new:
            raise UsageError(f"{path} was started with {words} ({name}): name the same source, tables and descriptors")


def _earlier(config: RunConfig, console: Console) -> TrainingRecord | None:
    """Return what the weights that a run starts from were trained on; a warning where that is not known.

    It is an error where the configuration is strict about its start.
    """
    found: TrainingRecord | None = None
    for source in (config.start, config.structure_start):
        if source is None:
            continue
        _, record = read_start(Path(source))
        if record is None:
            unknown = f"{source} does not say what it was trained on: it may have seen what is held out here"
            if config.strict_start:
                raise UsageError(f"{unknown}; leave out --strict-start to train all the same")
            console.print(f"warning: {unknown}", style="yellow", soft_wrap=True)
        else:
            found = record.joined(found)
    return found


def _fitted(config: RunConfig, prepared: Prepared, console: Console) -> RunConfig:
    """Return the configuration with as many epochs as fit into its time budget, and no more than it asks for."""
    if config.time_budget is None:
        return config
    with console.status("timing some steps"):
        found = estimate(config, prepared.data, console)
    epochs = min(config.epochs, found.epochs_within(config.time_budget))
    console.print(
        f"{found.epoch_seconds:.2g} s an epoch: {epochs} of {config.epochs} epochs in {config.time_budget:g} h"
    )
    return replace(config, epochs=epochs)


def _write_data(path: Path, prepared: Prepared) -> None:
    write_json(path / SPLITS, prepared.split.as_dict(prepared.dataset.ids))
    write_text(path / OUTLIERS, prepared.outliers.table.to_csv(index=False, float_format="%.6g"))
    if rejected := prepared.dataset.materials.rejected:
        rows = pd.DataFrame([(one.id, one.code, one.reason) for one in rejected], columns=["row", "code", "reason"])
        write_text(path / REJECTED, rows.to_csv(index=False))


def _train(
    path: Path, module: TrainingModule, config: RunConfig, prepared: Prepared, console: Console, stop: StopRequest,
    earlier: TrainingRecord | None, extras: Extras, *, going_on: bool = False,
) -> None:  # fmt: skip
    """Train; `best.pt` and `history.json` are there then."""
    facts, record = prepared.weights_facts(config), prepared.record(earlier)
    try:
        fit(
            module, config, prepared.data, path, facts=facts, record=record, console=console, stop=stop,
            resume=going_on, extras=extras,
        )  # fmt: skip
    except MisconfigurationException as error:  # of callbacks and loggers that do not fit
        raise UsageError(f"trainer: {' '.join(str(error).split())}") from None


def _evaluate(
    path: Path, config: RunConfig, prepared: Prepared, console: Console, earlier: TrainingRecord | None
) -> dict[str, Any]:
    history = read_json(path / HISTORY, ModelError, "train the run again")
    with console.status("evaluating"):
        results = evaluate_run(path, config, prepared, history, earlier=earlier)
    update_manifest(path, best_epoch=results["best_epoch"], score=results["score"])
    return results


@contextmanager
def _recorded(path: Path, config: RunConfig, console: Console) -> Iterator[dict[str, Any]]:
    """Write into manifest and registry how a run ended, and print its results, which go into what is yielded."""
    started, results = time.perf_counter(), dict[str, Any]()
    try:
        yield results
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt | Interrupted) else "failed"
        end_manifest(path, status, error=f"{type(error).__name__}: {error}")
        with suppress(StorageError):  # what went wrong first is what the user must read
            register_run(path, config)
        if (path / CHECKPOINT).is_file():
            console.print(f"to continue: crystrata resume {path}", soft_wrap=True)
        raise
    end_manifest(path, "completed", hours=results["hours"], wall_hours=(time.perf_counter() - started) / 3600)
    register_run(path, config)
    print_tables(results, console)
    console.print(f"Run directory: {path}", soft_wrap=True)


def _announce(config: RunConfig, facts: dict[str, Any], console: Console) -> None:
    sizes = ", ".join(f"{count} {part}" for part, count in facts["materials"].items())
    source = facts["source"]["name"] + (" (DEMO: labels are not DFT)" if facts["source"]["demo"] else "")
    console.print(
        f"{config.title}, {len(config.tasks)} tasks; {source}: {sizes} materials; {config.epochs} epochs of batches of "
        f"{config.batch_size}"
    )
