"""Any model on a part of some data: its metrics, and tables of its predictions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from crystrata.compositions.descriptors import PrecomputedDescriptors, descriptor_source
from crystrata.compositions.keys import composition_key
from crystrata.datasets.labels import no_labels
from crystrata.datasets.selection import listed_keys
from crystrata.datasets.splits import PARTS
from crystrata.errors import ModelError, UsageError, unknown_name
from crystrata.files import write_json
from crystrata.networks.ensemble import Ensemble
from crystrata.prediction.inference import predict_rows
from crystrata.prediction.trained_model import TrainedModel, load_model
from crystrata.reports.leaderboard import official_figures, official_predictions
from crystrata.reports.tables import part_table, terminal_official
from crystrata.runs.config import OWN_TABLES, RunConfig
from crystrata.runs.directory import CONFIG, MANIFEST, SPLITS
from crystrata.runs.find import saved_config
from crystrata.runs.manifest import read_manifest
from crystrata.tasks import SELECTIONS, Task
from crystrata.workflows.evaluate import long_tables, number_columns, predict_part, task_metrics, write_long_tables
from crystrata.workflows.prepare import Prepared, labels_of_tasks, prepare
from crystrata.workflows.run import require_same_data
from crystrata.workflows.sources import SAVED, TEST_ALL, Inputs

PREDICTED = "predicted"
"""Folder of a run with what it was asked to predict."""

OF_SOURCE = "crystals"
"""Name of the table with the predictions for a source's own materials."""

_PLACES = ("data_file", "data_dir", "source", "device", "workers", "splits_file")


def config_of_model(model: TrainedModel, **fields: Any) -> RunConfig:
    """Return the configuration by which a model can be evaluated, whether it is a run or a shipped model.

    `fields` are fields of the configuration that are asked for; None means not given.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    folder = model.path.parent
    if (folder / CONFIG).is_file():
        return replace(saved_config(folder), **given)
    network = model.network.members[0] if isinstance(model.network, Ensemble) else model.network
    config = network.config
    descriptor = {
        name: one for name, one in model.facts.get("descriptor", {}).items() if name not in ("width", "digest")
    }
    values = {
        "tasks": model.tasks,
        "algorithm": model.facts["algorithm"],
        "mode": "std" if config.composition is None else OWN_TABLES,
        "structure": config.structure,
        "structure_settings": config.structure_settings,
        "graph": config.graph,
        "composition": config.composition,
        "composition_settings": config.composition_settings,
        "split": "random" if config.composition is None else TEST_ALL,
        "outlier_filter": config.composition is None,
        **({"descriptor": descriptor} if descriptor else {}),
    }
    return RunConfig(**{**values, **given})


def evaluate_model(
    model: TrainedModel, config: RunConfig, part: str, console: Console, inputs: Inputs | None = None
) -> dict[str, Any]:
    """Print and return the metrics of a model on `val` or `test` of some data, task -> metrics, None without a label.

    The configuration names the data and how they are split.

    Raises:
        CrystrataError: The data cannot be used, or do not fit the model.
    """
    prepared = _prepared(model, config, console, inputs or Inputs())
    rows = prepared.split.part(part)
    if not len(rows):
        raise UsageError(f"the {part} part is empty")
    dataset = prepared.dataset
    known = 0 if model.record is None else int(model.record.saw([dataset.ids[row] for row in rows]).sum())
    if known:
        console.print(f"notice: {known} of {len(rows)} materials of this part were trained on")
    numbers = [task for task in config.tasks if task.is_number]
    labels = labels_of_tasks(numbers, dataset, prepared.hulls)
    truth = {
        one: {name: column[prepared.split.part(one)] for name, column in labels.items()} for one in ("train", part)
    }
    values, details, _ = predict_part(model, numbers, prepared, rows)
    others = predict_rows(model.network, dataset, rows) if any(not task.is_number for task in config.tasks) else {}
    metrics = {
        task.name: task_metrics(task, model, prepared, part, truth, values, others.get(task.name))
        for task in config.tasks
    }
    if all(found is None for found in metrics.values()):
        raise UsageError(f"no task has a known label in the {part} part")
    console.print(part_table(f"{part} part", metrics))
    if part == "test" and prepared.split.official_tests:
        answers = official_predictions(prepared.split, dataset.materials, numbers, values, details)
        figures = official_figures(answers, numbers, dataset.materials, prepared.split.train)
        console.print(
            terminal_official(
                {"tasks": {task.name: {"unit": task.unit} for task in numbers}, "official_tests": figures}
            )
        )
    return metrics


def evaluate_run_part(run: Path, config: RunConfig | None, part: str, console: Console, inputs: Inputs) -> Path:
    """Evaluate a run on `val` or `test`, or on other data; write the metrics and return their file.

    The data are those that the run was trained with if there is no configuration.
    """
    model = load_model(run, "auto" if config is None else config.device)
    metrics = evaluate_model(model, _config_of_run(run, model, config), part, console, inputs)
    file = run / f"{part}_metrics.json"
    write_json(file, metrics)
    console.print(f"Metrics: {file}", soft_wrap=True)
    return file


def write_predictions(
    run: Path, config: RunConfig | None, console: Console, inputs: Inputs, *, predict: str = "test"
) -> Path:
    """Predict what a configuration asks for, in physical units, as parquet tables; return their folder.

    The configuration names the data, with or without labels; without one they are those of the training. `predict` is
    the part of a source's own materials: train, val, test or all.

    Raises:
        CrystrataError: The data cannot be used, or do not fit the run.
    """
    model, folder = load_model(run, "auto" if config is None else config.device), run / PREDICTED
    config = _config_of_run(run, model, config)
    tasks = [task for task in config.tasks if task.labels != "none"]
    without = [task for task in tasks if not task.data_files] if config.mode == OWN_TABLES else []
    if without and inputs.table is None:
        inputs = replace(inputs, table=_without_labels(without, _keys(without, config)))
        if len(without) == len(tasks):
            config = replace(config, split=TEST_ALL, splits_file=None)
    with warnings.catch_warnings():
        if without:
            warnings.filterwarnings("ignore", ".*no label.*")
        prepared = _prepared(model, config, console, inputs)
    if prepared.dataset.materials.table is None:
        tables = long_tables(model, config, prepared)
    else:
        tables = {OF_SOURCE: _table_of_source(model, config, prepared, predict)}
    write_long_tables(folder, tables)
    for name, table in tables.items():
        console.print(f"{len(table)} rows: {folder / name}.parquet", soft_wrap=True)
    return folder


def _config_of_run(run: Path, model: TrainedModel, config: RunConfig | None) -> RunConfig:
    """Return the configuration of a run, with the data of another; its tasks with the heads as they were trained.

    A task that the network does not have, or that is of another kind, is a UsageError.
    """
    saved = saved_config(run)
    if config is None:
        config = saved
    elif saved.mode != OWN_TABLES:
        return replace(saved, **{name: getattr(config, name) for name in _PLACES})
    trained, tasks = {task.name: task for task in model.network.tasks}, []
    for task in config.tasks:
        if task.name not in trained:
            if task.derived_from:
                tasks.append(task)
                continue
            raise unknown_name(f"task for {run}", task.name, trained)
        known = trained[task.name]
        if task.kind != known.kind:
            raise UsageError(f"task {task.name!r} is a {known.kind} in {run}, not a {task.kind}")
        tasks.append(replace(task, head=known.head, classes=known.classes, transform=known.transform))
    fields = {name: getattr(saved, name) for name in ("structure", "structure_settings", "composition")}
    config = replace(config, tasks=tuple(tasks), **fields)
    if config.mode == OWN_TABLES and config.split not in (SAVED, TEST_ALL):
        config = replace(config, split=SAVED, splits_file=str(run / SPLITS))
    return config


def _prepared(model: TrainedModel, config: RunConfig, console: Console, inputs: Inputs) -> Prepared:
    """Return the data, if the model can read them: descriptors must be those that the network was trained with."""
    prepared = prepare(config, console, inputs=inputs, to_train=False)
    found, given = model.facts.get("descriptor"), prepared.facts.get("descriptor")
    if found and given:
        from_tables = found["kind"] == given["kind"] == "table"  # of other compositions as a rule
        if found["width"] != given["width"] or not (from_tables or found["digest"] == given["digest"]):
            read = ", ".join(f"{key} {value}" for key, value in found.items() if key != "digest")
            raise UsageError(f"the network reads other descriptors: {read}")
    folder = model.path.parent
    if (folder / MANIFEST).is_file() and prepared.dataset.materials.table is not None:
        try:
            same_split = saved_config(folder).split == config.split
        except ModelError:
            same_split = False
        if same_split:
            before = read_manifest(folder)
            if before["split"].get("validation_crystals_seen_before") is None:  # else its split lost these materials
                require_same_data(folder, before, prepared)
    return prepared


def _table_of_source(model: TrainedModel, config: RunConfig, prepared: Prepared, wanted: str) -> pd.DataFrame:
    """Return one row per material: id, part, and for each task of one number the label and the prediction."""
    if wanted not in SELECTIONS:
        raise unknown_name("predict_idx", wanted, SELECTIONS)
    numbers, tables = [task for task in config.tasks if task.is_number], []
    labels = labels_of_tasks(numbers, prepared.dataset, prepared.hulls)
    for part in PARTS if wanted == "all" else (wanted,):
        rows = prepared.split.part(part)
        values, _, _ = predict_part(model, numbers, prepared, rows)
        columns = number_columns(numbers, {name: column[rows] for name, column in labels.items()}, values)
        tables.append(pd.DataFrame({"id": [prepared.dataset.ids[row] for row in rows], "part": part, **columns}))
    return pd.concat(tables, ignore_index=True)


def _keys(tasks: Sequence[Task], config: RunConfig) -> list[str]:
    """Return the compositions to predict without labels: those that are listed, or all of a table of descriptors."""
    keys = list(listed_keys(tasks, composition_key).values())
    source = descriptor_source(**config.descriptor)
    if not keys and isinstance(source, PrecomputedDescriptors):
        keys = source.keys
    if not keys:
        raise UsageError("no table and no compositions: list those to predict as predict_idx")
    return keys


def _without_labels(tasks: Sequence[Task], keys: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return a table for each task in which all labels are unknown; a coordinate needs a table of its own."""
    tables = {}
    for task in tasks:
        no_labels(task)  # refuses what needs a table
        width = task.head.get("components") or task.head.get("seq_len")
        cell = None if width is None else [np.nan] * width
        columns = {task.composition_column or "composition": list(keys), task.columns[0]: [cell] * len(keys)}
        tables[task.name] = pd.DataFrame(columns, index=list(keys), dtype=object)
    return tables
