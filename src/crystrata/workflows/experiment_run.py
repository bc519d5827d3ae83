"""The run that a YAML file describes: a new one, or one that goes on."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException
from rich.console import Console

from crystrata.errors import ModelError, UsageError
from crystrata.reports.part_table import part_table
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import BEST, CHECKPOINT, CONFIG, RESULTS
from crystrata.runs.task_config import NOT_RESULT_OF_TASKS, TaskRunConfig
from crystrata.workflows.documents.experiment import Experiment
from crystrata.workflows.resumable import find_resumable
from crystrata.workflows.task_run import resume_tasks, run_tasks, saved_task_config
from crystrata.workflows.tier_run import resume_tier, run_tier

LAST = "last"


def fit_experiment(experiment: Experiment, command: list[str], console: Console, checkpoint: str | None = None) -> Path:
    """Train and evaluate what an experiment describes; return the run directory.

    Args:
        experiment: The run.
        command: The command line, for the manifest.
        console: Where progress goes.
        checkpoint: Run that goes on, `last` for the newest one of the experiment; a new run if None.

    Raises:
        CrystrataError: Data, configuration or storage does not allow it.
    """
    try:
        run = _carry_out(experiment, command, console, checkpoint)
    except MisconfigurationException as error:  # of callbacks and loggers that do not fit
        raise UsageError(f"trainer: {' '.join(str(error).split())}") from None
    if isinstance(experiment.config, TaskRunConfig):
        tasks = json.loads((run / RESULTS).read_text(encoding="utf-8"))["tasks"]
        part = "test" if any(parts["test"] for parts in tasks.values()) else "val"
        console.print(part_table(f"{part} part", {name: parts[part] for name, parts in tasks.items()}))
    return run


def _carry_out(experiment: Experiment, command: list[str], console: Console, checkpoint: str | None) -> Path:
    config, extras = experiment.config, experiment.extras()
    if checkpoint is None:
        config = replace(config, run_id=_free_name(config.family_dir, experiment.name))
        if isinstance(config, RunConfig):
            return run_tier(config, command, console, extras)
        return run_tasks(config, command, console, extras=extras)
    run = find_run_of(config, experiment.name, checkpoint, CHECKPOINT)
    if isinstance(config, RunConfig):
        return resume_tier(*find_resumable(replace(config, run_id=None), str(run)), command, console, extras)
    _require_same_settings(run, config)
    return resume_tasks(run, command, console, epochs=config.epochs, extras=extras)


def find_run_of(config: RunConfig | TaskRunConfig, experiment: str | None, named: str | None, holding: str) -> Path:
    """Return the run that a path names, or the newest one of an experiment.

    Args:
        config: The run as its document writes it.
        experiment: Name of the experiment; any run of the family without.
        named: A run directory or a file in one; `last` or None for the newest run.
        holding: File that the run must hold: a checkpoint to go on, weights to predict.

    Raises:
        ModelError: There is none.
    """
    if named not in (None, LAST):
        path = Path(str(named))
        return require_run(path.parent if path.is_file() else path)
    runs = [run for run in _runs_of(config.family_dir, experiment) if (run / holding).is_file()]
    if not runs:
        what = f"of the experiment {experiment!r} " if experiment else ""
        raise ModelError(f"no run {what}with a {holding} under {config.family_dir}: train one, or name it by ckpt_path")
    return max(runs, key=lambda run: (run / holding).stat().st_mtime_ns)


def require_run(path: Path) -> Path:
    """Return a path that is a run directory.

    Raises:
        ModelError: It is none.
    """
    if not (path / CONFIG).is_file():
        raise ModelError(f"{path} is no run directory: it has no {CONFIG}")
    return path


def weights_of(run: Path) -> Path:
    """Return the best weights of a run.

    Raises:
        ModelError: There are none yet.
    """
    if not (run / BEST).is_file():
        raise ModelError(f"{run} has no {BEST} yet: its first epoch is not over")
    return run / BEST


def _runs_of(family: Path, experiment: str | None) -> list[Path]:
    name = re.compile(rf"run_{re.escape(experiment)}(_([2-9]|[1-9]\d+))?" if experiment else "run_.*")
    return [path for path in family.glob("run_*") if name.fullmatch(path.name)]


def _free_name(family: Path, experiment: str | None) -> str | None:
    """Return the name of the experiment, with the next number where there are runs of it."""
    if experiment is None:
        return None
    taken = {path.name.removeprefix("run_") for path in _runs_of(family, experiment)}
    names = [experiment, *(f"{experiment}_{number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name not in taken)


def _require_same_settings(run: Path, config: TaskRunConfig) -> None:
    free = {*NOT_RESULT_OF_TASKS, "epochs", "patience"}
    old, new = saved_task_config(run).as_dict(), config.as_dict()
    differing = [f"{key} {old[key]} -> {new[key]}" for key in old if key not in free and old[key] != new[key]]
    if differing:
        raise UsageError(
            f"{run} was started with other settings ({'; '.join(differing)}): give the same, or start anew"
        )
