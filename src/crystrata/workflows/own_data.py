"""A run over a table of one's own: which columns are learned, from what it starts, and settings for so many labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from crystrata.errors import DataError, UsageError, unknown_name
from crystrata.networks.config import NetworkConfig
from crystrata.prediction.trained_model import TrainedModel, load_model
from crystrata.presets import SIZES
from crystrata.runs.config import OWN_TABLES, RunConfig
from crystrata.runs.find import DEFAULT_MODEL, find_model
from crystrata.settings import make
from crystrata.sources.own import column_of, read_own_table
from crystrata.tasks import Task
from crystrata.training.starting_weights import read_start
from crystrata.workflows.run import run

KINDS = ("number", "class")
FREEZE = ("none", "encoder")
SCRATCH = "none"
_STEPS = 2000  # of a training on few labels
_EPOCHS = (20, 200)  # at least and at most
_MOST_CLASSES = 50


def train(
    table: str | Path, target: str | Sequence[str], *, structures: str | Path | None = None,
    console: Console | None = None, **settings: Any,
) -> TrainedModel:  # fmt: skip
    """Train a network for columns of a table of one's own; return the trained model.

    Args:
        table: One row for each material; see `own_config`, also for the further `settings`.
        target: Column or columns to learn.
        structures: Folder, archive or file of the structures that the rows name.
        console: Where progress goes; nowhere if not given.

    Raises:
        CrystrataError: The data cannot be used.
    """
    targets = [target] if isinstance(target, str) else list(target)
    config = own_config(Path(table), None if structures is None else Path(structures), targets, **settings)
    return load_model(run(config, ["crystrata.train"], console or Console(quiet=True)))


def own_config(
    table: Path, structures: Path | None, targets: Sequence[str], *, id_column: str | None = None,
    units: Sequence[str] = (), start: str | None = None, freeze: str = "none", models_dir: str = "models",
    **overrides: Any,
) -> RunConfig:  # fmt: skip
    """Return the configuration of a run that learns columns of a table.

    Args:
        table: One row for each material.
        structures: Folder, archive or file of the structures that the rows name; None where `id_column` names formulas.
        targets: Columns to learn, `seebeck`, or `phase:class` for a class.
        id_column: Column that names the structure or formula.
        units: Unit of each target, in their order; those in brackets behind a column name if not given.
        start: Weights to start from; the shipped model if not given, `none` for no start.
        freeze: `encoder` trains the heads alone.
        models_dir: Folder of all runs.
        **overrides: Fields of `RunConfig`; None means not given.

    Raises:
        CrystrataError: The table or start cannot be used, or a column is missing.
    """
    if freeze not in FREEZE:
        raise unknown_name("--freeze", freeze, FREEZE)
    if not targets:
        raise UsageError("--target names the column to learn, and must be given")
    if len(units) > len(targets):
        raise UsageError(f"{len(units)} units for {len(targets)} targets: give one --unit for each --target, in order")
    frame = read_own_table(table)
    tasks = [
        _task(frame, table, target, units[place] if place < len(units) else None)
        for place, target in enumerate(targets)
    ]
    known = max(int(_known(frame, task).sum()) for task in tasks)
    batch = int(overrides.get("batch_size") or (16 if known < 2000 else 64))
    least, most = _EPOCHS
    epochs = int(overrides.get("epochs") or min(most, max(least, round(_STEPS * batch / max(known, 1)))))
    values: dict[str, Any] = {
        "tasks": tasks, "epochs": epochs, "batch_size": batch, "patience": max(10, epochs // 4), "clip": 0.5,
        "weight_decay": 0.05, "ema": 0.99, "learned_balance": len(tasks) > 1, "split": "random", "top_k": 1,
        "models_dir": models_dir,
    }  # fmt: skip
    if structures is None:
        values |= _of_formulas(frame, table, tasks, id_column)
    else:
        values |= {"table": str(table), "structures": str(structures), "id_column": id_column}
        values |= _of_structures(start, Path(models_dir), freeze)
    return make(RunConfig, {**values, **{name: value for name, value in overrides.items() if value is not None}}, "")


def _task(frame: pd.DataFrame, path: Path, target: str, unit: str | None) -> Task:
    name, _, kind = target.partition(":")
    if kind not in ("", *KINDS):
        raise unknown_name(f"kind of target {name}", kind, KINDS)
    column = column_of(frame, name, path)
    plain = re.sub(r"\W+", "_", re.split(r"[\[(]", name)[0]).strip("_").lower()
    if kind == "class":
        classes = sorted({str(cell).strip() for cell in column.dropna()} - {""})
        if not 2 <= len(classes) <= _MOST_CLASSES:
            raise DataError(
                f"{path}: column {column.name!r} has {len(classes)} classes; a class has 2 to {_MOST_CLASSES}"
            )
        return Task(plain, "classification", columns=(str(column.name),), classes=tuple(classes))
    numbers = pd.to_numeric(column, errors="coerce")
    if not numbers.notna().any():
        raise DataError(f"{path}: column {column.name!r} holds no number; write {name}:class if it holds classes")
    if unit is None:
        unit = next(iter(re.findall(r"[\[(]([^\])]*)[\])]\s*$", str(column.name))), "")
    return Task(plain, columns=(str(column.name),), unit=unit, title=name)


def _known(frame: pd.DataFrame, task: Task) -> pd.Series:
    column = frame[task.columns[0]]
    return column.astype(str).isin(task.classes) if task.classes else pd.to_numeric(column, errors="coerce").notna()


def _of_structures(start: str | None, models_dir: Path, freeze: str) -> dict[str, Any]:
    """Return encoder and rate of a run on structures: those of its start, or the standard size."""
    if start == SCRATCH:
        if freeze != "none":
            raise UsageError(f"--freeze {freeze} needs trained weights: leave out --start none")
        return {"mode": OWN_TABLES, "algorithm": "e3nn", "structure": "e3nn", "size": "std", "lr": 3e-3,
                "structure_settings": dict(SIZES["e3nn", "std"])}  # fmt: skip
    found = find_model(models_dir, start or DEFAULT_MODEL)
    network: NetworkConfig = read_start(found)[0].config
    if not network.reads_crystals_alone or network.structure is None:
        raise UsageError(f"{found} reads no structures: start from a model of crystals, such as {DEFAULT_MODEL}")
    return {
        "mode": OWN_TABLES, "algorithm": network.structure, "structure": network.structure, "start": str(found),
        "structure_settings": dict(network.structure_settings), "graph": network.graph, "lr": 3e-4,
        "latent_stage": network.latent_stage, "freeze_shared": freeze == "encoder",
    }  # fmt: skip


def _of_formulas(frame: pd.DataFrame, path: Path, tasks: list[Task], column: str | None) -> dict[str, Any]:
    """Return what a run on formulas reads: the table as that of each task."""
    keys = column or next((name for name in ("formula", "composition") if name in frame.columns), None)
    if keys is None:
        raise UsageError(f"{path} has no column formula or composition: --id names it, or --structures the structures")
    own: Mapping[str, Any] = {"data_files": [str(path)], "composition_column": str(column_of(frame, keys, path).name)}
    return {
        "tasks": [Task.from_dict({**task.as_dict(), **own}) for task in tasks], "mode": OWN_TABLES, "lr": 2e-3,
        "algorithm": "composition", "composition": "mlp", "composition_settings": {"hidden_dims": [None, 256, 128]},
        "latent_stage": "tanh", "split": "by-table",
    }  # fmt: skip
