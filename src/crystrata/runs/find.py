"""Which model answers and which run goes on: the one that is named, the shipped model, or the newest of its kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crystrata.errors import CrystrataError, ModelError, UsageError, nearest
from crystrata.files import read_json
from crystrata.jarvis_properties import NINE
from crystrata.presets import LEVELS
from crystrata.runs.config import NOT_RESULT, RunConfig, mode_in_words
from crystrata.runs.directory import BEST, CHECKPOINT, CONFIG, HISTORY, MANIFEST
from crystrata.runs.manifest import read_manifest
from crystrata.runs.registry import REGISTRY, RunEntry, read_registry
from crystrata.runs.slurm import job_id, was_requeued

PRETRAINED = "pretrained"
"""Folder of shipped models: in the models folder, and in the package."""

DEFAULT_MODEL = "jarvis-nine"
"""The shipped model that predicts where nothing is named and no run is suitable."""

EVALUATED_MODEL = "jarvis-nine-union"
"""The model that never saw the official tests: benchmarks start from it. It is in the source tree, not in the wheel."""

DEFAULT_COMPOSITIONS = "jarvis-compositions"
"""The shipped model of compositions that inverse design searches with where nothing is named."""

WEIGHTS = "weights.safetensors"
DESCRIPTION = "model.json"
CARD = "README.md"

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED, _IN_SOURCES = _PACKAGE / PRETRAINED, _PACKAGE.parents[1] / "models" / PRETRAINED
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else _IN_SOURCES
"""Where the models that come with the package lie: inside it where it is installed, else in the source tree."""


def is_model_folder(path: Path) -> bool:
    """Whether a folder is a shipped model, be it an incomplete one."""
    return any((path / name).is_file() for name in (DESCRIPTION, WEIGHTS))


def find_shipped(models_dir: Path, name: str = DEFAULT_MODEL) -> Path | None:
    """Return the folder of the shipped model of a name, or None; the models folder takes precedence."""
    if Path(name).name != name:
        return None
    folders = (models_dir / PRETRAINED / name, SHIPPED / name)
    return next((folder for folder in folders if is_model_folder(folder)), None)


LAST = "last"
_CHECKS = ("smoke", "lite")  # levels that check the pipeline
_KIND = ("algorithm", "mode", "structure", "size", "single_task")
_MAY_CHANGE = ("epochs", "patience")


def find_model(models_dir: Path, name: str | None = None, family: str | None = None, default: str = "") -> Path:
    """Return the run or the folder of the shipped model that answers.

    Args:
        models_dir: Folder of all runs.
        name: The name of a shipped model or a path, which takes precedence and is taken as it stands. `latest` is the
            run that completed last, of whatever kind. `best` leaves out demo, smoke and lite runs, and those of a
            leaderboard-only property alone. Validation scores compare only between runs on the same crystals, split and
            properties: `best` starts from the run with the most of the nine properties, then the most training
            crystals, then the latest end, and takes the lowest score comparable to it. Not given: the shipped model.
        family: With no name: the newest run of this family, of whatever kind.
        default: Name of the shipped model that answers where nothing is named; `jarvis-nine` if "".

    Raises:
        ModelError: There is none; says how to get one.
    """
    if name not in (None, "best", "latest"):
        shipped = None if Path(name).exists() else find_shipped(models_dir, name)
        return shipped or Path(name)
    if name is None and family is None:
        wanted = default or DEFAULT_MODEL
        if shipped := find_shipped(models_dir, wanted):
            return shipped
        raise ModelError(
            f"the shipped model {wanted} is neither under {SHIPPED} nor under {models_dir}: name a model with --model, "
            "such as `best`, `latest` or the directory of a run"
        )
    usable = [entry for entry in read_registry(models_dir) if entry.completed and _weights(models_dir, entry).is_file()]
    if name == "latest":
        chosen = usable[-1:]
    elif name == "best":
        chosen = _best([entry for entry in usable if _is_full_run(entry)])
    else:
        chosen = [entry for entry in usable if entry.family == family][-1:]
    if not chosen:
        raise _none_found(models_dir, name, family, usable)
    return models_dir / chosen[0].path


def _is_full_run(entry: RunEntry) -> bool:
    """Whether a run is no check of the pipeline, no demo, and of one of the nine properties."""
    return entry.mode not in _CHECKS and not entry.demo and not set(NINE).isdisjoint(entry.properties)


def _best(entries: Sequence[RunEntry]) -> list[RunEntry]:
    def comparable(entry: RunEntry) -> tuple[Any, ...]:
        return entry.source_digest, entry.split_digest, entry.properties

    if not entries:
        return []
    newest_first = list(reversed(entries))  # of equals, `max` and `min` take the first
    widest = max(newest_first, key=lambda entry: (len({*entry.properties} & {*NINE}), entry.train_crystals or 0))
    rivals = [entry for entry in newest_first if comparable(entry) == comparable(widest)]
    return [min(rivals, key=lambda entry: float("inf") if entry.val_score is None else entry.val_score)]


def _weights(models_dir: Path, entry: RunEntry) -> Path:
    return models_dir / entry.path / BEST


def _none_found(models_dir: Path, name: str | None, family: str | None, usable: Sequence[RunEntry]) -> ModelError:
    asked = f" for --model {name}" if name else ""
    if family:
        asked = f" for --family {family}{nearest(family, {entry.family for entry in usable})}"
    elif usable:
        asked += f" ({len(usable)} demo, smoke, lite and leaderboard runs are used only when named)"
    return ModelError(
        f"no trained model under {models_dir}{asked}: {REGISTRY} there lists no such completed run with weights; train "
        "one (run_phase2.py --level std --all-properties), or name a run with --model PATH"
    )


def find_resumable(config: RunConfig, named: str | None, *, any_tasks: bool = False) -> tuple[Path, RunConfig]:
    """Return the run to continue and its configuration.

    Args:
        config: What the command line asks for.
        named: Path or name of a run; None takes the newest one of the same family, mode and encoder.
        any_tasks: Whether the tasks are those of the run, whatever the configuration has.

    Raises:
        ModelError: There is no such run, or none that has a checkpoint yet.
        UsageError: The command line contradicts the run's configuration, or asks for fewer epochs than it has.
    """
    if named:
        candidates = [path for path in (Path(named), config.family_dir / named) if (path / CONFIG).is_file()]
    else:
        candidates = _of_the_same_kind(config, any_tasks=any_tasks)
    if not candidates:
        where = named or f"{config.family_dir} ({config.algorithm}, {mode_in_words(config.mode)})"
        reason = _of_another_kind(config, any_tasks=any_tasks) if not named else ""
        raise ModelError(
            f"no run to resume at {where}: {reason or f'none there has a {CONFIG if named else CHECKPOINT}'}"
        )
    run = max(candidates, key=_last_written)
    return run, continued(run, config, tasks_of_run=any_tasks)


def continued(run: Path, config: RunConfig, *, tasks_of_run: bool = False) -> RunConfig:
    """Return the configuration with which a run goes on.

    Args:
        run: Its directory.
        config: What is asked for: epochs, and where to compute, may be others than those of the run.
        tasks_of_run: Whether the tasks are those of the run, whatever the configuration has.

    Raises:
        UsageError: The configuration contradicts that of the run, or asks for fewer epochs than it has behind it.
    """
    saved = saved_config(run)
    if tasks_of_run:
        config = replace(config, tasks=saved.tasks)
    if config.time_budget is not None:  # the epochs were fitted to it when the run began
        config = replace(config, epochs=saved.epochs)
    where = {name: getattr(config, name) for name in NOT_RESULT if name not in ("run_id", "start", "structure_start")}
    wanted = replace(saved, epochs=config.epochs, patience=config.patience, **where)
    if differing := wanted.differences(config):
        raise UsageError(
            f"{run} was started with other settings ({'; '.join(differing)}): give the same, or start a new run"
        )
    require_epochs(run, wanted)
    return wanted


def require_epochs(run: Path, config: RunConfig) -> None:
    """Refuse to continue a run to fewer epochs than it has behind it; nothing is written.

    Raises:
        UsageError: It has more.
    """
    done = len(read_json(run / HISTORY, ModelError, "the run cannot go on")) if (run / HISTORY).is_file() else 0
    if config.epochs < done:
        raise UsageError(
            f"{run} has {done} epochs behind it, and --epochs {config.epochs} asks for fewer: give {done} or more to "
            "continue it, or train a new run"
        )


def _of_the_same_kind(config: RunConfig, *, any_tasks: bool) -> list[Path]:
    """Return the runs that a bare `--resume` chooses from; a damaged one is an error only where there is no other."""
    found, damaged = [], None
    for path in config.family_dir.glob("run_*"):
        if not (path / CHECKPOINT).is_file():
            continue
        try:
            saved = saved_config(path)
        except CrystrataError as error:
            damaged = error
            continue
        same_tasks = any_tasks or saved.properties == config.properties
        if same_tasks and all(getattr(saved, key) == getattr(config, key) for key in _KIND):
            found.append(path)
    if damaged is not None and not found:
        raise damaged
    return found


def _of_another_kind(config: RunConfig, *, any_tasks: bool) -> str:
    """Return by which flags the newest run of the family differs from what is asked for, or "" where there is none."""
    runs = [path for path in config.family_dir.glob("run_*") if (path / CHECKPOINT).is_file()]
    if not runs:
        return ""
    saved = saved_config(newest := max(runs, key=_last_written))
    flags = {"level" if saved.mode in LEVELS else "profile": "mode", "encoder": "structure", "size": "size"}
    given = {flag: getattr(saved, key) for flag, key in flags.items() if getattr(saved, key) != getattr(config, key)}
    if not any_tasks and saved.properties != config.properties:
        given["properties"] = ",".join(saved.properties)
    asked = " ".join(f"--{flag} {value}" for flag, value in given.items())
    return f"the newest run there is {newest.name}; add {asked} to continue it"


def run_of_job(config: RunConfig) -> Path | None:
    """Return the run that this SLURM job was carrying out before it was requeued, or None."""
    if not was_requeued():
        return None
    runs = [path.parent for path in config.family_dir.glob(f"run_*/{MANIFEST}")]
    return max((run for run in runs if _is_of_job(run, config)), key=_last_written, default=None)


def _is_of_job(run: Path, config: RunConfig) -> bool:
    try:
        manifest = read_manifest(run)
    except ModelError:
        return False
    return manifest.get("slurm_job") == job_id() and manifest.get("config_digest") == config.digest()


def _last_written(run: Path) -> int:
    return max(path.stat().st_mtime_ns for path in (run / CONFIG, run / CHECKPOINT) if path.is_file())


def find_run_of(config: RunConfig, experiment: str | None, named: str | None, holding: str) -> Path:
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
    runs = [run for run in runs_of(config.family_dir, experiment) if (run / holding).is_file()]
    if not runs:
        what = f"of the experiment {experiment!r} " if experiment else ""
        raise ModelError(f"no run {what}with a {holding} under {config.family_dir}: train one, or name it by ckpt_path")
    return max(runs, key=lambda run: (run / holding).stat().st_mtime_ns)


def require_run(path: Path) -> Path:
    """Return a path that is a run directory.

    Raises:
        ModelError: It is not.
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


def runs_of(family: Path, experiment: str | None) -> list[Path]:
    """Return the run directories of an experiment, or all of a family."""
    name = re.compile(rf"run_{re.escape(experiment)}(_([2-9]|[1-9]\d+))?" if experiment else "run_.*")
    return [path for path in family.glob("run_*") if name.fullmatch(path.name)]


def free_name(family: Path, experiment: str | None) -> str | None:
    """Return the name of the experiment, with the next number where there are runs of it."""
    if experiment is None:
        return None
    taken = {path.name.removeprefix("run_") for path in runs_of(family, experiment)}
    names = [experiment, *(f"{experiment}_{number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name not in taken)


def saved_config(run: Path) -> RunConfig:
    """Return the configuration that a run was started with.

    Raises:
        ModelError: It is missing, damaged, or of an earlier version.
    """
    values = read_json(run / CONFIG, ModelError, "is it a run directory?")
    if isinstance(values, dict) and "tasks" not in values:
        raise ModelError(
            f"{run / CONFIG} was written by an earlier version, whose runs cannot be continued: its weights still "
            "predict (--model), and a new run can start from them (--start)"
        )
    try:
        return RunConfig.from_dict(values)
    except (ValueError, TypeError, KeyError, AttributeError, UsageError) as error:
        raise ModelError(f"{run / CONFIG} is missing or damaged: {error}") from None
