"""Continual rehearsal: tasks arrive one after another, earlier ones are replayed a little.

Each step is an ordinary run over tasks that starts from the step before. Split, labels and the scaling of a head never
change, so a rehearsal that was cut goes on by the same command: steps that are over are passed over, the one under way
is resumed.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from crystrata.compositions.descriptors import DescriptorSource
from crystrata.errors import UsageError, unknown_name
from crystrata.files import lock, write_json
from crystrata.networks.weights import unpack_single
from crystrata.runs.config import RunConfig
from crystrata.runs.continual_config import ContinualConfig
from crystrata.runs.directory import BEST, HISTORY, MANIFEST, RESULTS, RUN_LOCK
from crystrata.runs.find import saved_config
from crystrata.runs.manifest import read_manifest
from crystrata.training.checkpoints import read_checkpoint, write_checkpoint
from crystrata.workflows.continual_plan import ContinualStep
from crystrata.workflows.continual_preparation import TRAINING, PreparedContinual, prepare_continual
from crystrata.workflows.continual_records import (
    FINAL,
    RECORD,
    evaluate_heads,
    summary,
    write_final,
    write_records,
)
from crystrata.workflows.prepare import Inputs
from crystrata.workflows.run import resume as resume_run
from crystrata.workflows.run import run as new_run

FINETUNE, FINETUNE_SUMMARY = "finetune", "finetune_summary.json"
_HEADS_ALONE: dict[str, Any] = {"learned_balance": False, "autoencoder": False, "self_supervised": {}}


def run_continual(config: ContinualConfig, command: list[str], console: Console) -> dict[str, Any]:
    """Carry out a rehearsal, or what is left of it; return its records.

    Args:
        config: The rehearsal.
        command: The command line, for the manifests.
        console: Where progress goes.

    Raises:
        CrystrataError: Data, configuration or storage does not allow it.
    """
    folder = Path(config.output) / TRAINING
    with lock(folder / RUN_LOCK):
        rehearsal = prepare_continual(config, console)
        before = None
        for step in rehearsal.steps:
            run = folder / step.folder
            if (run / RECORD).is_file():
                console.print(f"{step.folder}: over already")
            else:
                _learn(rehearsal, step, before, command, console)
            before = run
        write_final(folder, folder / rehearsal.steps[-1].folder, rehearsal.prepared)
        records = write_records(folder, config, rehearsal.steps, rehearsal.prepared)
    console.print(summary(records))
    console.print(f"Rehearsal: {folder}", soft_wrap=True)
    return records


def finetune_heads(
    config: ContinualConfig,
    heads: Sequence[str],
    command: list[str],
    console: Console,
    *,
    checkpoint: Path | None = None,
    epochs: int | None = None,
) -> Path:
    """Train some heads of a rehearsal's model alone, all else frozen; return the folder of the result.

    `<output>/finetune` is a run over these tasks that also holds `final_model.pt`, with every head, and
    `finetune_summary.json`.

    Args:
        config: The rehearsal.
        heads: Tasks whose heads are trained, from all their training labels.
        command: The command line, for the manifest.
        console: Where progress goes.
        checkpoint: Weights to start from; the final model of the rehearsal if not given.
        epochs: Passes over the training part; as many as a step has if not given.

    Raises:
        UsageError: A head is unknown, or the folder holds a finished fine-tuning or one from other weights.
        CrystrataError: Data, weights or storage does not allow it.
    """
    folder = Path(config.output) / TRAINING
    run, start = folder.with_name(FINETUNE), checkpoint or folder / FINAL
    with lock(folder / RUN_LOCK):
        rehearsal = prepare_continual(config, console)
        trained, _ = unpack_single(read_checkpoint(start))
        for name in heads:
            if name not in rehearsal.tasks or name not in trained.heads:
                raise unknown_name("head", name, [task for task in rehearsal.tasks if task in trained.heads])
        _require_open(run, start)
        tuned = rehearsal.run_config(heads, start=str(start), carry_heads=True, freeze_shared=True, **_HEADS_ALONE)
        tuned = tuned if epochs is None else replace(tuned, epochs=epochs)
        _run_or_resume(run, tuned, rehearsal.source, command, console)
    _write_finetuned(run)
    console.print(f"Fine-tuned: {run / FINAL}", soft_wrap=True)
    return run


def _require_open(run: Path, start: Path) -> None:
    """Refuse a fine-tuning that is finished, or that was started from other weights."""
    if (run / FINETUNE_SUMMARY).is_file():
        raise UsageError(f"{run} holds a finished fine-tuning: choose another --output, or remove it")
    if not (run / MANIFEST).is_file():
        return
    saved = str(saved_config(run).start)
    if Path(saved).resolve() != start.resolve():
        raise UsageError(
            f"{run} was started from {saved}, not from {start}: name the same --checkpoint, or another --output"
        )


def _write_finetuned(run: Path) -> None:
    """Write the model of a fine-tuning that is over, and a summary."""
    config, content = saved_config(run), read_checkpoint(run / BEST)
    write_checkpoint(run / FINAL, content)
    results = json.loads((run / RESULTS).read_text(encoding="utf-8"))
    told = {
        "checkpoint": config.start,
        "trained": list(config.properties),
        "heads": list(unpack_single(content)[0].heads),
        "epochs": config.epochs,
        "best_epoch": results["best_epoch"],
        "tasks": results["tasks"],
    }
    write_json(run / FINETUNE_SUMMARY, told)


def _learn(
    rehearsal: PreparedContinual, step: ContinualStep, before: Path | None, command: list[str], console: Console
) -> None:
    """Carry out a step, or the rest of it, evaluate every head that is there, and note that the step is over."""
    run = rehearsal.folder / step.folder
    told = ", ".join(f"{count} of {name}" for name, count in step.replayed.items())
    console.print(f"{step.folder}: replaying {told or 'nothing'}", soft_wrap=True)
    start = {} if before is None else {"start": str(before), "carry_heads": True}
    config = rehearsal.run_config([step.task], step.replayed, **start)
    cpu = time.process_time()
    whole = _run_or_resume(run, config, rehearsal.source, command, console)
    metrics = evaluate_heads(run, rehearsal.prepared, config.device, drawn=[step.task])
    history = json.loads((run / HISTORY).read_text(encoding="utf-8"))
    record = {
        "step": step.number,
        "task": step.task,
        "replayed": dict(step.replayed),
        "epochs": len(history),
        "best_epoch": read_manifest(run)["best_epoch"],
        "seconds": sum(epoch["seconds"] for epoch in history),
        "cpu_seconds": time.process_time() - cpu if whole else None,
        "metrics": metrics,
    }
    write_json(run / RECORD, record)


def _run_or_resume(
    run: Path, config: RunConfig, source: DescriptorSource, command: list[str], console: Console
) -> bool:
    """Make a run, or end one that was cut; return whether all of it was done now."""
    if not (run / MANIFEST).is_file():
        if run.is_dir():
            shutil.rmtree(run)  # killed before anything was trained
        run.mkdir(parents=True)
        new_run(config, command, console, inputs=Inputs(descriptors=source), directory=run)
        return True
    if saved_config(run).digest() != config.digest():
        raise UsageError(f"{run} was started with other settings: give the same, or another --output")
    if read_manifest(run)["status"] != "completed":
        resume_run(run, saved_config(run), command, console, inputs=Inputs(descriptors=source))
    return False
