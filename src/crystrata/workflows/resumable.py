"""Which run goes on: the one that is named, the newest of its kind, or the one of a requeued SLURM job."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from crystrata.errors import CrystrataError, ModelError, UsageError
from crystrata.runs.config import NOT_RESULT, RunConfig, mode_in_words
from crystrata.runs.directory import CHECKPOINT, CONFIG, MANIFEST
from crystrata.runs.manifest import read_manifest
from crystrata.runs.slurm import job_id, was_requeued


def find_resumable(config: RunConfig, named: str | None) -> tuple[Path, RunConfig]:
    """Return the run to continue and its configuration.

    Args:
        config: What the command line asks for.
        named: Path or name of a run; None takes the newest one of the same family, mode and properties.

    Raises:
        ModelError: There is no such run, or none that has a checkpoint yet.
        UsageError: The command line contradicts the run's configuration.
    """
    if named:
        candidates = [path for path in (Path(named), config.family_dir / named) if (path / CONFIG).is_file()]
    else:
        candidates = _of_the_same_kind(config)
    if not candidates:
        where = named or f"{config.family_dir} ({config.algorithm}, {mode_in_words(config.mode)})"
        raise ModelError(f"no run to resume at {where}: none there has a {CONFIG if named else CHECKPOINT}")
    run = max(candidates, key=_last_written)
    saved = saved_config(run)
    if config.time_budget is not None:  # the epochs were fitted to it when the run began
        config = replace(config, epochs=saved.epochs)
    wanted = replace(saved, epochs=config.epochs, patience=config.patience, **_where(config))
    if wanted.digest() != config.digest():
        old, new = saved.as_dict(), config.as_dict()
        free = {*NOT_RESULT, "epochs", "patience"}
        differing = [f"{key} {old[key]} -> {new[key]}" for key in old if old[key] != new[key] and key not in free]
        raise UsageError(
            f"{run} was started with other settings ({'; '.join(differing)}): give the same, or start anew"
        )
    return run, wanted


def _of_the_same_kind(config: RunConfig) -> list[Path]:
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
        if all(getattr(saved, key) == getattr(config, key) for key in _KIND):
            found.append(path)
    if damaged is not None and not found:
        raise damaged
    return found


_KIND = ("algorithm", "mode", "properties", "encoder", "size")


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


def _where(config: RunConfig) -> dict[str, Any]:
    """Return where the run goes on; its name and its start are those that it has."""
    return {name: getattr(config, name) for name in NOT_RESULT if name not in ("run_id", "start")}


def saved_config(run: Path) -> RunConfig:
    """Return the configuration that a run was started with.

    Raises:
        ModelError: It is missing, damaged, or of another version.
    """
    try:
        return RunConfig.from_dict(json.loads((run / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, UsageError) as error:
        raise ModelError(f"{run / CONFIG} is missing or damaged: {error}") from None
