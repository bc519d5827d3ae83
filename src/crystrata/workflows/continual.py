"""Continual learning: tasks arrive one after another, earlier ones are replayed a little.

Each step is an ordinary run over tasks that starts from the step before. Split, labels and the scaling of a head never
change, so the same command continues where it was interrupted: finished steps are skipped, the one under way is
resumed. Each step leaves the predictions and metrics of all heads, and the end what was forgotten.

R[s, t] is the R2 (of classes the accuracy) of task t on the fixed test part after step s, S the last step:

    forgetting_t = R[t, t] - R[S, t]        BWT = mean_t (R[S, t] - R[t, t])

The mean is that over all tasks, the last one included, whose difference is 0; over the earlier ones alone it is
S / (S - 1) times as large.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from crystrata.compositions.descriptors import DescriptorSource
from crystrata.errors import UsageError, unknown_name
from crystrata.files import lock, write_bytes, write_json
from crystrata.networks.device import resolve_device
from crystrata.networks.weights import unpack_single
from crystrata.prediction.inference import predict_rows
from crystrata.reports.figures import forgetting_figure, png_of, task_figure
from crystrata.reports.tables import cell_text
from crystrata.runs.config import RunConfig
from crystrata.runs.continual_config import ContinualConfig
from crystrata.runs.directory import BEST, HISTORY, MANIFEST, RESULTS, RUN_LOCK
from crystrata.runs.find import saved_config
from crystrata.runs.manifest import read_manifest
from crystrata.tasks import KINDS, Task
from crystrata.training.checkpoints import read_checkpoint, write_checkpoint
from crystrata.workflows.continual_preparation import TRAINING, ContinualStep, PreparedContinual, prepare_continual
from crystrata.workflows.evaluate import as_table, labelled_metrics, write_table
from crystrata.workflows.prepare import Prepared
from crystrata.workflows.run import resume as resume_run
from crystrata.workflows.run import run as new_run
from crystrata.workflows.sources import Inputs

RECORD = "step_record.json"
RECORDS, FINAL, FORGETTING = "experiment_records.json", "final_model.pt", "forgetting_trajectory.png"
FINETUNE, FINETUNE_SUMMARY = "finetune", "finetune_summary.json"
_HEADS_ALONE: dict[str, Any] = {"learned_balance": False, "autoencoder": False, "self_supervised": {}}


def run_continual(config: ContinualConfig, command: list[str], console: Console) -> dict[str, Any]:
    """Learn the tasks, or those that are left; return the records of all steps."""
    folder = Path(config.output) / TRAINING
    with lock(folder / RUN_LOCK):
        learning = prepare_continual(config, console)
        before = None
        for step in learning.steps:
            run = folder / step.folder
            if (run / RECORD).is_file():
                console.print(f"{step.folder}: already finished")
            else:
                _learn(learning, step, before, command, console)
            before = run
        write_final(folder, folder / learning.steps[-1].folder, learning.prepared)
        records = write_records(folder, config, learning.steps, learning.prepared)
    console.print(summary(records))
    console.print(f"Continual learning: {folder}", soft_wrap=True)
    return records


def finetune_heads(
    config: ContinualConfig, heads: Sequence[str], command: list[str], console: Console, *,
    checkpoint: Path | None = None, epochs: int | None = None,
) -> Path:  # fmt: skip
    """Train some heads of the final model alone, all else frozen; return the folder of the result.

    `<output>/finetune` is a run over these tasks, from all their training labels, that also holds `final_model.pt`,
    with every head, and `finetune_summary.json`. It starts from `checkpoint` if not from the final model, and takes as
    many epochs as a step if none are given.

    Raises:
        UsageError: A head is unknown, or the folder holds a finished fine-tuning or one from other weights.
        CrystrataError: Data, weights or storage does not allow it.
    """
    folder = Path(config.output) / TRAINING
    run, start = folder.with_name(FINETUNE), checkpoint or folder / FINAL
    with lock(folder / RUN_LOCK):
        learning = prepare_continual(config, console)
        trained, _ = unpack_single(read_checkpoint(start))
        for name in heads:
            if name not in learning.tasks or name not in trained.heads:
                raise unknown_name("head", name, [task for task in learning.tasks if task in trained.heads])
        _require_open(run, start)
        tuned = learning.run_config(heads, start=str(start), carry_heads=True, freeze_shared=True, **_HEADS_ALONE)
        tuned = tuned if epochs is None else replace(tuned, epochs=epochs)
        _run_or_resume(run, tuned, learning.source, command, console)
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
    summary = {
        "checkpoint": config.start,
        "trained": list(config.properties),
        "heads": list(unpack_single(content)[0].heads),
        "epochs": config.epochs,
        "best_epoch": results["best_epoch"],
        "tasks": results["tasks"],
    }
    write_json(run / FINETUNE_SUMMARY, summary)


def _learn(
    learning: PreparedContinual, step: ContinualStep, before: Path | None, command: list[str], console: Console
) -> None:
    """Carry out a step, or the rest of it, evaluate all heads, and note that the step is finished."""
    run = learning.folder / step.folder
    replayed = ", ".join(f"{count} of {name}" for name, count in step.replayed.items())
    console.print(f"{step.folder}: replaying {replayed or 'nothing'}", soft_wrap=True)
    start = {} if before is None else {"start": str(before), "carry_heads": True}
    config = learning.run_config([step.task], step.replayed, **start)
    cpu = time.process_time()
    whole = _run_or_resume(run, config, learning.source, command, console)
    metrics = evaluate_heads(run, learning.prepared, config.device, drawn=[step.task])
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
    """Make a run, or finish one that was interrupted; return whether all of it was done now."""
    if not (run / MANIFEST).is_file():
        if run.is_dir():
            shutil.rmtree(run)  # interrupted before anything was trained
        run.mkdir(parents=True)
        new_run(config, command, console, inputs=Inputs(descriptors=source), directory=run)
        return True
    if saved_config(run).digest() != config.digest():
        raise UsageError(f"{run} was started with other settings: give the same, or another --output")
    if read_manifest(run)["status"] != "completed":
        resume_run(run, saved_config(run), command, console, inputs=Inputs(descriptors=source))
    return False


def metric_of(task: Task) -> str:
    """Return the name of the metric that is compared over the steps."""
    return "accuracy" if KINDS[task.kind].metric == "accuracy" else "r2"


def evaluate_heads(run: Path, prepared: Prepared, device: str, drawn: Sequence[str]) -> dict[str, Any]:
    """Evaluate every head of a run on the test part; return task -> metrics, None where that has no label.

    The run directory gets `<task>_pred.parquet` and `<task>_metrics.json`, and `<task>.png` of the tasks in `drawn`.
    """
    network, _ = unpack_single(read_checkpoint(run / BEST))
    dataset, metrics = prepared.dataset, {}
    found = predict_rows(network.to(resolve_device(device)), dataset, prepared.split.test)
    for task in dataset.tasks:
        if task.name not in found:
            continue
        table = as_table(found[task.name], dataset)
        metrics[task.name] = labelled_metrics(task, dataset, found[task.name])
        write_table(run / f"{task.name}_pred.parquet", table)
        write_json(run / f"{task.name}_metrics.json", metrics[task.name])
        if task.name in drawn and metrics[task.name] is not None:
            write_bytes(run / f"{task.name}.png", png_of(task_figure(task.name, table, task.classes)))
    return metrics


def write_final(folder: Path, last: Path, prepared: Prepared) -> None:
    """Write the weights of the last step as `final_model.pt`, with the facts of all tasks."""
    content = read_checkpoint(last / BEST)
    facts: dict[str, Any] = {name: prepared.facts[name] for name in ("labels", "labels_digest")}
    facts["properties"] = [task.name for task in prepared.dataset.tasks]
    write_checkpoint(folder / FINAL, {**content, "facts": {**content["facts"], **facts}})


def write_records(
    folder: Path, config: ContinualConfig, steps: Sequence[ContinualStep], prepared: Prepared
) -> dict[str, Any]:
    """Write `experiment_records.json` and the forgetting figure from the records of all steps; return the records."""
    done = [json.loads((folder / step.folder / RECORD).read_text(encoding="utf-8")) for step in steps]
    order = [step.task for step in steps]
    metric = {task.name: metric_of(task) for task in prepared.dataset.tasks if task.name in order}
    results = [
        {task: _value(record["metrics"].get(task), metric[task]) for task in order[:number]}
        for number, record in enumerate(done, start=1)
    ]
    arrival = {task: results[place][task] for place, task in enumerate(order)}
    end = results[-1]
    forgotten = {task: arrival[task] - end[task] for task in order}
    known = [-lost for lost in forgotten.values() if np.isfinite(lost)]
    records = {
        "config": config.as_dict(),
        "order": order,
        "metric": metric,
        "split": {name: prepared.facts["split"][name] for name in ("protocol", "seed", "digest")},
        "compositions": prepared.facts["materials"],
        "labels": prepared.facts["labels"],
        "R": results,
        "after_learning": arrival,
        "at_the_end": end,
        "forgetting": forgotten,
        "bwt": float(np.mean(known)) if known else float("nan"),
        "seconds": sum(record["seconds"] for record in done),
        "steps": done,
    }
    write_json(folder / RECORDS, records)
    write_bytes(folder / FORGETTING, png_of(forgetting_figure({"": results}, order)))
    return records


def summary(records: dict[str, Any]) -> Table:
    """Return the table for the terminal: each task after it was learned and at the end."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, caption=f"BWT {records['bwt']:.4f}", caption_justify="left")
    shown.add_column("task", overflow="fold")
    shown.add_column("metric", no_wrap=True)
    for column in ("learned", "at the end", "forgotten"):
        shown.add_column(column, justify="right", no_wrap=True)
    for task in records["order"]:
        figures = [cell_text(records[key][task], 3) for key in ("after_learning", "at_the_end", "forgetting")]
        shown.add_row(task, records["metric"][task], *figures)
    return shown


def _value(metrics: dict[str, Any] | None, name: str) -> float:
    """Return a metric, NaN where no label of the test part is known."""
    value = None if metrics is None else metrics[name]
    return float("nan") if value is None else float(value)
