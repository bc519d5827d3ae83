"""What a rehearsal leaves: predictions and figures of merit after each step, and what was forgotten at the end.

R[s, t] is the R2 (of classes the accuracy) of task t on the fixed test part after step s, S the last step:

    forgetting_t = R[t, t] - R[S, t]        BWT = mean_t (R[S, t] - R[t, t])

The mean is that over all tasks, the last one included, whose difference is 0; over the earlier ones alone it is
S / (S - 1) times as large.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from crystrata.files import write_bytes, write_json
from crystrata.networks.device import resolve_device
from crystrata.networks.weights import unpack_single
from crystrata.prediction.inference import predict_rows
from crystrata.reports.figures import forgetting_figure, png_of, task_figure
from crystrata.reports.tables import cell_text
from crystrata.runs.continual_config import ContinualConfig
from crystrata.runs.directory import BEST
from crystrata.tasks import KINDS, Task
from crystrata.training.checkpoints import read_checkpoint, write_checkpoint
from crystrata.workflows.continual_plan import ContinualStep
from crystrata.workflows.evaluate import as_table, labelled_metrics, write_table
from crystrata.workflows.prepare import Prepared

RECORD = "step_record.json"
RECORDS, FINAL, FORGETTING = "experiment_records.json", "final_model.pt", "forgetting_trajectory.png"


def metric_of(task: Task) -> str:
    """Return the name of the figure of merit that is compared over the steps."""
    return "accuracy" if KINDS[task.kind].metric == "accuracy" else "r2"


def evaluate_heads(run: Path, prepared: Prepared, device: str, drawn: Sequence[str]) -> dict[str, Any]:
    """Evaluate every head of a run on the test part; write predictions, figures of merit and plots.

    Args:
        run: Its directory, which gets `<task>_pred.parquet` and `<task>_metrics.json` of each, `<task>.png` of some.
        prepared: Data of all tasks.
        device: Where the network runs.
        drawn: Tasks with a plot.

    Returns:
        Task -> figures of merit, None where the test part has no label.
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
    for column in ("task", "metric", "learned", "at the end", "forgotten"):
        shown.add_column(column, justify="left" if column in ("task", "metric") else "right", no_wrap=True)
    for task in records["order"]:
        figures = [cell_text(records[key][task], 3) for key in ("after_learning", "at_the_end", "forgetting")]
        shown.add_row(task, records["metric"][task], *figures)
    return shown


def _value(metrics: dict[str, Any] | None, name: str) -> float:
    """Return a figure of merit, NaN where no label of the test part is known."""
    value = None if metrics is None else metrics[name]
    return float("nan") if value is None else float(value)
