"""After training on tasks: the figures of the best weights in physical units, and tables of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crystrata.compositions.keys import composition_key
from crystrata.datasets.composition_dataset import CompositionDataset
from crystrata.datasets.sampling import Step
from crystrata.datasets.splits import PARTS
from crystrata.datasets.tasks.selection import rows_to_predict
from crystrata.datasets.tasks.specs import TaskSpec
from crystrata.files import write_bytes, write_json
from crystrata.networks.device import resolve_device
from crystrata.networks.multitask import count_parameters
from crystrata.networks.task_network import TaskNetwork
from crystrata.networks.weights import unpack_task_network
from crystrata.prediction.intervals import conformal_quantile
from crystrata.prediction.task_inference import TaskPredictions, predict_tasks
from crystrata.reports.metrics import property_metrics
from crystrata.reports.task_metrics import class_metrics
from crystrata.runs.directory import BEST, RESULTS, TASK_PREDICTIONS
from crystrata.training.checkpoints import read_checkpoint
from crystrata.workflows.task_preparation import PreparedTasks

_EVALUATED = ("val", "test")
_BATCH = 256
_LEVELS = (80, 90, 95)  # of the intervals [%]


def evaluate_tasks(
    run: Path, device: str, prepared: PreparedTasks, history: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Evaluate the best weights of a run; write results and predictions of each task; return the results.

    Args:
        run: Its directory.
        device: Where the network runs.
        prepared: Its data.
        history: Its epochs.
    """
    network, facts = unpack_task_network(read_checkpoint(run / BEST))
    network = network.to(resolve_device(device))
    dataset, split = prepared.data.dataset, prepared.data.split
    found = {part: predict_tasks(network, dataset, split.part(part)) for part in _EVALUATED}
    tasks: dict[str, dict[str, Any]] = {}
    for spec in prepared.specs:
        tasks[spec.name] = {"kind": spec.kind}
        for part in _EVALUATED:
            tasks[spec.name][part] = task_metrics(spec, network, dataset, split.part(part), found[part].get(spec.name))
        if spec.kind == "regression":
            tasks[spec.name]["intervals"] = _intervals(*(found[part].get(spec.name) for part in _EVALUATED))
    results = {
        "tasks": tasks,
        "hours": sum(epoch["seconds"] for epoch in history) / 3600,
        "best_epoch": facts["best_epoch"],
        "val_score": facts["val_score"],
        "parameters": count_parameters(network),
        "split": {**prepared.facts["split"], **{part: len(split.part(part)) for part in PARTS}},
    }
    write_json(run / RESULTS, results)
    rows = rows_to_predict(prepared.specs, dataset.universe, split, composition_key)
    for name, predictions in predict_tasks(network, dataset, rows).items():
        write_table(run / TASK_PREDICTIONS / f"{name}.parquet", as_table(predictions, dataset))
    return results


def as_table(predictions: TaskPredictions, dataset: CompositionDataset) -> pd.DataFrame:
    """Return predictions as a table: key, t or component where there is one, true, pred."""
    keys = np.array(dataset.ids, dtype=object)[predictions.row]
    between = {"t": predictions.t, "component": predictions.component}
    columns = {"key": keys, **{name: values for name, values in between.items() if values is not None}}
    return pd.DataFrame({**columns, "true": predictions.true, "pred": predictions.predicted})


def task_metrics(
    spec: TaskSpec,
    network: TaskNetwork,
    dataset: CompositionDataset,
    rows: np.ndarray,
    predictions: TaskPredictions | None,
) -> dict[str, Any] | None:
    """Return the figures of merit of a task on some rows (n,), None where no label is known there.

    Args:
        spec: The task.
        network: In evaluation mode.
        dataset: The rows lie in it, and the training labels that tell the baselines.
        rows: (n,).
        predictions: Of these rows; None for an autoencoder.
    """
    if not len(rows):
        return None
    if predictions is None:
        return _reconstruction(spec, network, dataset, rows)
    return labelled_metrics(spec, dataset, predictions)


def labelled_metrics(
    spec: TaskSpec, dataset: CompositionDataset, predictions: TaskPredictions
) -> dict[str, Any] | None:
    """Return the figures of merit of a task with labels, None where none of them is known."""
    labels = dataset.training_labels([spec.name])[spec.name]
    train = labels.values[labels.known].numpy()
    if spec.kind == "classification":
        return class_metrics(predictions.true, predictions.predicted, train)
    metrics = property_metrics(predictions.true, predictions.predicted, train)
    return None if metrics is None else metrics.as_dict()


def _intervals(val: TaskPredictions | None, test: TaskPredictions | None) -> dict[str, Any]:
    """Return level [%] -> half the width of the interval in which so many validation labels lie, and its coverage on
    test, None without labels there; no levels where validation has none.
    """
    calibrating, tested = _errors(val), _errors(test)
    widths = {level: conformal_quantile(calibrating, level / 100) for level in _LEVELS}
    return {
        str(level): {"half_width": width, "coverage": float((tested <= width).mean()) if len(tested) else None}
        for level, width in widths.items()
        if np.isfinite(width)
    }


def _errors(predictions: TaskPredictions | None) -> np.ndarray:
    """Return the absolute errors where a label is known, (n,), empty without any."""
    if predictions is None:
        return np.empty(0)
    return np.abs(predictions.true - predictions.predicted)[np.isfinite(predictions.true)]


@torch.inference_mode()
def _reconstruction(
    spec: TaskSpec, network: TaskNetwork, dataset: CompositionDataset, rows: np.ndarray
) -> dict[str, Any]:
    """Return how well descriptors are rebuilt: the mean squared error in units of the training variance."""
    device = network.descriptor_mean.device
    batches = dataset.batches(Step(rows, _BATCH), network.training_form)
    errors = torch.cat([network.errors(batch.to(device))[spec.name].cpu() for batch in batches])
    return {"n": len(rows), "mse": float(errors.mean())}


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as parquet, atomically; the folder is made if need be."""
    path.parent.mkdir(exist_ok=True)
    content = BytesIO()
    table.to_parquet(content, index=False)
    write_bytes(path, content.getvalue())
