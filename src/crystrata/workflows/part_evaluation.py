"""A trained run on one part of its data, or on other data: figures of merit, and tables of predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from crystrata.datasets.splits import PARTS
from crystrata.errors import ModelError, UsageError, unknown_name
from crystrata.files import write_json
from crystrata.prediction.models import load_model
from crystrata.properties import get_property
from crystrata.reports.part_table import part_table
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import BEST
from crystrata.runs.manifest import read_manifest
from crystrata.runs.seen import seen_before
from crystrata.runs.task_config import TaskRunConfig
from crystrata.workflows.documents.crystal import CrystalData
from crystrata.workflows.documents.experiment import Experiment
from crystrata.workflows.evaluation import labels_of_part, part_metrics, predict_part
from crystrata.workflows.experiment_run import find_run_of, require_run, weights_of
from crystrata.workflows.preparation import PreparedData, prepare_data
from crystrata.workflows.resumable import saved_config
from crystrata.workflows.task_evaluation import write_table
from crystrata.workflows.task_part import evaluate_tasks_part, predict_tasks_part
from crystrata.workflows.task_run import saved_task_config
from crystrata.workflows.tier_run import require_same_data

PREDICTED = "predicted"
"""Folder of a run with what it was asked to predict."""

_PLACES = ("data_file", "data_dir", "source", "device", "workers", "splits_file")


def find_run(experiment: Experiment | None, named: str | None) -> Path:
    """Return the run that is evaluated: the one that is named, or the newest of the experiment.

    Raises:
        ModelError: There is none with weights.
    """
    if experiment is None:
        path = Path(named or "")
        run = require_run(path.parent if path.is_file() else path)
    else:
        run = find_run_of(experiment.config, experiment.name, named, BEST)
    weights_of(run)
    return run


def evaluate(run: Path, experiment: Experiment | None, part: str, console: Console) -> dict[str, Any]:
    """Evaluate a run on the validation or test part; print and write the figures; return them.

    Args:
        run: Its directory.
        experiment: Which data; those that it was trained with if None.
        part: `val` or `test`.
        console: Where the table goes.

    Raises:
        CrystrataError: The data cannot be used, or do not fit the run.
    """
    config = _config(run, experiment)
    if isinstance(config, TaskRunConfig):
        metrics = evaluate_tasks_part(run, config, part, console)
    else:
        prepared = _prepared(run, config, console)
        values = predict_part(load_model(weights_of(run), config.device), config, prepared, part).values
        truth = {name: labels_of_part(config, prepared, name) for name in ("train", part)}
        metrics = part_metrics(config, prepared, part, truth, values)
    if all(found is None for found in metrics.values()):
        raise UsageError(f"no task has a known label in the {part} part")
    file = run / f"{part}_metrics.json"
    write_json(file, metrics)
    console.print(part_table(f"{part} part", metrics))
    console.print(f"Metrics: {file}", soft_wrap=True)
    return metrics


def write_predictions(run: Path, experiment: Experiment | None, console: Console) -> Path:
    """Predict what the experiment asks for, in physical units, as parquet tables; return their folder.

    Args:
        run: Its directory.
        experiment: Which data, with or without labels; those that it was trained with if None.
        console: Where the paths go.

    Raises:
        CrystrataError: The data cannot be used, or do not fit the run.
    """
    config, folder = _config(run, experiment), run / PREDICTED
    if isinstance(config, TaskRunConfig):
        tables = predict_tasks_part(run, config, console)
    else:
        wanted = experiment.data.predict_idx if experiment and isinstance(experiment.data, CrystalData) else "test"
        tables = {"crystals": _crystal_table(run, config, str(wanted), console)}
    for name, table in tables.items():
        write_table(folder / f"{name}.parquet", table)
        console.print(f"{len(table)} rows: {folder / name}.parquet", soft_wrap=True)
    return folder


def _config(run: Path, experiment: Experiment | None) -> RunConfig | TaskRunConfig:
    """Return the configuration of a run, with the data of an experiment."""
    try:
        saved: RunConfig | TaskRunConfig = saved_task_config(run)
    except ModelError:
        saved = saved_config(run)
    if experiment is None:
        return saved
    if isinstance(saved, TaskRunConfig) and isinstance(experiment.config, TaskRunConfig):
        return experiment.config
    if isinstance(saved, RunConfig) and isinstance(experiment.config, RunConfig):
        return replace(saved, **{name: getattr(experiment.config, name) for name in _PLACES})
    raise UsageError(f"{run} is of another kind than {type(experiment.model).__name__}")


def _prepared(run: Path, config: RunConfig, console: Console) -> PreparedData:
    prepared = prepare_data(config, console, seen=seen_before(run))
    require_same_data(run, read_manifest(run), prepared)
    return prepared


def _crystal_table(run: Path, config: RunConfig, wanted: str, console: Console) -> pd.DataFrame:
    """Return one row per crystal: id, part, and for each property the label and the prediction."""
    if wanted not in (*PARTS, "all"):
        raise unknown_name("predict_idx", wanted, (*PARTS, "all"))
    prepared, tables = _prepared(run, config, console), []
    model = load_model(weights_of(run), config.device)
    for part in PARTS if wanted == "all" else (wanted,):
        rows = prepared.data.split.part(part)
        truth, values = labels_of_part(config, prepared, part), predict_part(model, config, prepared, part).values
        columns: dict[str, Any] = {
            "id": [prepared.data.dataset.ids[row] for row in rows],
            "part": np.full(len(rows), part),
        }
        for column, name in enumerate(config.properties):
            title = get_property(name).column
            columns[f"label {title}"], columns[f"predicted {title}"] = truth[:, column], values[:, column]
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)
