"""Before continual learning: its tasks with their tables, one split for all steps, and the order of the steps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from crystrata.compositions.descriptors import CachedDescriptors, DescriptorSource, descriptor_source
from crystrata.datasets.catalogues import catalogue_tasks, composition_table
from crystrata.datasets.masks import replay_count
from crystrata.errors import DataError, UsageError, unknown_name
from crystrata.files import write_json
from crystrata.runs.config import RunConfig
from crystrata.runs.continual_config import ContinualConfig
from crystrata.runs.directory import SPLITS
from crystrata.sources import DEFAULT_RELEASE
from crystrata.sources.opening import JARVIS_VARIABLE, named_file, open_source
from crystrata.workflows.evaluate import write_table
from crystrata.workflows.prepare import Prepared, prepare
from crystrata.workflows.sources import SAVED, Inputs

TRAINING = "training"
NOTED, COMPOSITIONS = "continual.json", "compositions.parquet"


@dataclass(frozen=True)
class ContinualStep:
    """One step of continual learning.

    Attributes:
        number: Counted from 1.
        task: The task that arrives, learned from all its training samples.
        replayed: Earlier task -> number of its training samples that an epoch sees; the others rest.
    """

    number: int
    task: str
    replayed: Mapping[str, int]

    @property
    def folder(self) -> str:
        """Name of its run directory."""
        return f"step{self.number:02d}_{self.task}"


def plan_steps(config: ContinualConfig, tasks: Sequence[str], samples: Mapping[str, int]) -> list[ContinualStep]:
    """Return the steps of tasks in the order of the configuration; `samples` counts the known training samples of each.

    Raises:
        UsageError: `last` or `replay_by_task` names an unknown task, or a task cannot name a folder.
    """
    for name in tasks:
        if Path(name).name != name:
            raise UsageError(f"task {name!r} cannot name a folder: leave out slashes")
    for key, named in (("last", config.last), ("replay_by_task", config.replay_by_task)):
        for name in named:
            if name not in tasks:
                raise unknown_name(f"task in {key}", name, tasks)
    order = [name for name in tasks if name not in config.last]
    if config.order_seed is not None:
        order = [order[place] for place in np.random.default_rng(config.order_seed).permutation(len(order))]
    order += config.last
    amounts = {name: replay_count(config.replay_by_task.get(name, config.replay), samples[name]) for name in order}
    steps = []
    for number, name in enumerate(order, start=1):
        replays = number % config.replay_interval == 0
        earlier = {known: amounts[known] for known in order[: number - 1] if replays and amounts[known]}
        steps.append(ContinualStep(number, name, earlier))
    return steps


@dataclass(frozen=True)
class PreparedContinual:
    """Continual learning that can go on.

    Attributes:
        folder: `<output>/training`.
        tasks: Task -> plain values, with files.
        prepared: Data of all tasks.
        source: Descriptors.
    """

    config: ContinualConfig
    folder: Path
    tasks: Mapping[str, dict[str, Any]]
    prepared: Prepared
    source: DescriptorSource
    steps: Sequence[ContinualStep]

    def run_config(self, names: Sequence[str], replayed: Mapping[str, int] | None = None, **fields: Any) -> RunConfig:
        """Return the configuration of a run on the one split.

        It learns the tasks `names` from all their training samples, and those `replayed` from as many as an epoch sees.
        """
        counts = self.prepared.data.label_counts()
        shares = {name: count / counts[name]["train"] for name, count in (replayed or {}).items()}
        shares |= dict.fromkeys(names, 1.0)
        tasks = tuple({**self.tasks[name], "task_masking_ratio": share} for name, share in shares.items())
        return self.config.run_config(tasks, split=SAVED, splits_file=str(self.folder / SPLITS), **fields)


def prepare_continual(config: ContinualConfig, console: Console) -> PreparedContinual:
    """Prepare the steps; the folder then holds the table of labels, the split and the configuration, each written once.

    Raises:
        UsageError: The folder was started with another configuration or other labels.
        CrystrataError: The data cannot be used.
    """
    folder = Path(config.output) / TRAINING
    before = _checked_before(folder, config)
    tasks = _with_files(config, folder / COMPOSITIONS, console)
    if any(task.get("kind") == "autoencoder" for task in tasks):
        raise UsageError("an autoencoder is not a step: set autoencoder in [continual.training]")
    split = folder / SPLITS
    saved = {"split": SAVED, "splits_file": str(split)} if split.is_file() else {}
    plain = config.run_config(tuple(tasks), **saved)
    source = CachedDescriptors(descriptor_source(**plain.descriptor))
    prepared = prepare(plain, console, inputs=Inputs(descriptors=source))
    digest = prepared.facts["labels_digest"]
    if before and before["labels_digest"] != digest:
        raise UsageError(f"{folder} was started with other labels: give the same tables, or another --output")
    counts = prepared.data.label_counts()
    names = [str(task["name"]) for task in tasks]
    steps = plan_steps(config, names, {name: counts[name]["train"] for name in names})
    if not saved:
        write_json(split, prepared.split.as_dict(prepared.dataset.ids))
    if not before:
        write_json(folder / NOTED, {"config": config.as_dict(), "labels_digest": digest})
    return PreparedContinual(config, folder, dict(zip(names, tasks, strict=True)), prepared, source, steps)


def _checked_before(folder: Path, config: ContinualConfig) -> dict[str, Any] | None:
    """Return what an earlier call has noted, None if nothing; refuse another configuration."""
    file = folder / NOTED
    if not file.is_file():
        return None
    before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    old, new = ContinualConfig.from_dict(before["config"]).deciding(), config.deciding()
    new["data_file"] = new["data_file"] or old["data_file"]  # its labels are in the folder
    differing = [f"{key} {old.get(key)} -> {new.get(key)}" for key in old | new if old.get(key) != new.get(key)]
    if differing:
        raise UsageError(
            f"{folder} was started with other settings ({'; '.join(differing)}): give the same, or another --output"
        )
    return before


def _with_files(config: ContinualConfig, table: Path, console: Console) -> list[dict[str, Any]]:
    """Return all tasks with their files; those that name none read the JARVIS table by composition, written once."""
    tasks = [dict(task) for task in config.tasks]
    if config.catalogue is not None:
        tasks = [*catalogue_tasks(config.catalogue, curves=config.curves_file is not None), *tasks]
    bare = [task for task in tasks if task.get("data_column") and not task.get("data_files")]
    if bare and not table.is_file():
        columns = [str(task[key]) for task in bare for key in ("data_column", "t_column") if task.get(key)]
        _write_compositions(table, columns, config, console)
    for task in bare:
        task["data_files"] = [str(table)]
    return tasks


def _write_compositions(file: Path, columns: list[str], config: ContinualConfig, console: Console) -> None:
    if named_file(DEFAULT_RELEASE, config.data_file) is None:
        raise DataError(f"tasks read the JARVIS table: name its file by --data-file or the variable {JARVIS_VARIABLE}")
    plain = config.run_config(())
    crystals = open_source("jarvis", DEFAULT_RELEASE, config.data_file, Path(plain.data_dir), console)
    found = composition_table(
        crystals, columns, curves_file=config.curves_file, most=config.max_compositions, seed=plain.seed
    )
    write_table(file, found)
