"""A trained network of tasks on a part of some tables, or on compositions without any label."""

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
from crystrata.datasets.tasks.selection import listed_keys, rows_to_predict
from crystrata.datasets.tasks.specs import TaskSpec, parse_tasks
from crystrata.datasets.tasks.tables import no_labels
from crystrata.errors import UsageError, unknown_name
from crystrata.networks.device import resolve_device
from crystrata.networks.task_network import TaskNetwork
from crystrata.networks.weights import unpack_task_network
from crystrata.prediction.task_inference import predict_tasks
from crystrata.runs.directory import BEST, SPLITS
from crystrata.runs.seen import trained_on
from crystrata.runs.task_config import TaskRunConfig
from crystrata.training.checkpoints import read_checkpoint
from crystrata.workflows.task_evaluation import as_table, task_metrics
from crystrata.workflows.task_preparation import PreparedTasks, prepare_tasks


def evaluate_tasks_part(run: Path, config: TaskRunConfig, part: str, console: Console) -> dict[str, Any]:
    """Return task -> figures of merit of a run on a part, None where a task has no label there.

    The part is that of the run's own split, unless the configuration has a `splits_file` or `test_all`.

    Args:
        run: Its directory.
        config: Tasks, tables and descriptor.
        part: The part.
        console: Where downloads, and compositions that were trained on, are told of.

    Raises:
        CrystrataError: The data cannot be used, or do not fit the run.
    """
    network, facts, config = _trained(run, config)
    if config.splits_file is None and not config.test_all:
        config = replace(config, splits_file=str(run / SPLITS))
    prepared = _fitting(network, facts, prepare_tasks(config, console, to_train=False))
    dataset, rows = prepared.data.dataset, prepared.data.split.part(part)
    if not len(rows):
        raise UsageError(f"the {part} part is empty")
    if known := len((trained_on(run) or set()).intersection(dataset.ids[row] for row in rows)):
        console.print(f"notice: {known} of {len(rows)} compositions of this part were trained on")
    found = predict_tasks(network, dataset, rows)
    return {spec.name: task_metrics(spec, network, dataset, rows, found.get(spec.name)) for spec in prepared.specs}


def predict_tasks_part(run: Path, config: TaskRunConfig, console: Console) -> dict[str, pd.DataFrame]:
    """Return task -> predictions of a run, for the compositions that each task asks for.

    Tasks need no table: without any, the compositions are those that are listed, or all of a table of descriptors.

    Args:
        run: Its directory.
        config: Tasks, tables and descriptor.
        console: Where downloads are told of.

    Raises:
        CrystrataError: The data cannot be used, or do not fit the run.
    """
    network, facts, config = _trained(run, config)
    specs = [spec for spec in parse_tasks(config.tasks) if spec.kind != "autoencoder"]
    without = [spec for spec in specs if not spec.data_files]
    tables = _without_labels(without, _keys(specs, config)) if without else None
    if len(without) == len(specs):
        config = replace(config, test_all=True)
    with warnings.catch_warnings():
        if without:
            warnings.filterwarnings("ignore", ".*has no known label.*")
        prepared = _fitting(network, facts, prepare_tasks(config, console, table=tables, to_train=False))
    dataset = prepared.data.dataset
    rows = rows_to_predict(prepared.specs, dataset.universe, prepared.data.split, composition_key)
    return {name: as_table(found, dataset) for name, found in predict_tasks(network, dataset, rows).items()}


def _trained(run: Path, config: TaskRunConfig) -> tuple[TaskNetwork, dict[str, Any], TaskRunConfig]:
    """Return the best network of a run with its facts, and the configuration with the heads as they were trained.

    Raises:
        UsageError: The configuration has a task that the network has not.
    """
    network, facts = unpack_task_network(read_checkpoint(run / BEST))
    trained, tasks = {spec.name: spec for spec in network.config.tasks}, []
    for spec in parse_tasks(config.tasks):
        if spec.name not in trained:
            raise unknown_name(f"task for {run}", spec.name, trained)
        if spec.kind != trained[spec.name].kind:
            raise UsageError(f"task {spec.name!r} is a {trained[spec.name].kind} in {run}, not a {spec.kind}")
        known = trained[spec.name]
        tasks.append(replace(spec, head=known.head, classes=known.classes, transform=known.transform).as_dict())
    return network.to(resolve_device(config.device)).eval(), facts, replace(config, tasks=tuple(tasks))


def _fitting(network: TaskNetwork, facts: dict[str, Any], prepared: PreparedTasks) -> PreparedTasks:
    """Return the data, if their descriptors are those that the network reads.

    Raises:
        UsageError: They are others.
    """
    trained, given = facts["descriptor"], prepared.facts["descriptor"]
    from_tables = trained["kind"] == given["kind"] == "table"  # of other compositions as a rule
    if trained["width"] != given["width"] or not (from_tables or trained["digest"] == given["digest"]):
        told = ", ".join(f"{key} {value}" for key, value in trained.items() if key != "digest")
        raise UsageError(f"the network reads other descriptors: {told}")
    return prepared


def _keys(specs: Sequence[TaskSpec], config: TaskRunConfig) -> list[str]:
    """Return the compositions to predict without labels: those that are listed, or all of a table of descriptors.

    Raises:
        UsageError: There are none.
    """
    keys = listed_keys(specs, composition_key)
    source = descriptor_source(**config.descriptor)
    if not keys and isinstance(source, PrecomputedDescriptors):
        keys = source.keys
    if not keys:
        raise UsageError("no table and no compositions: list those to predict as predict_idx")
    return keys


def _without_labels(specs: Sequence[TaskSpec], keys: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return a table for each task in which every label is unknown.

    Raises:
        DataError: A task has a coordinate, which only a table can tell.
    """
    tables = {}
    for spec in specs:
        no_labels(spec)  # refuses what needs a table
        width = spec.head.get("components") or spec.head.get("seq_len")
        cell = None if width is None else [np.nan] * width
        columns = {spec.composition_column or "composition": list(keys), spec.data_column: [cell] * len(keys)}
        tables[spec.name] = pd.DataFrame(columns, index=list(keys), dtype=object)
    return tables
