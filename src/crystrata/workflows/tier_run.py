"""The tier run: from a configuration to a trained, evaluated and documented model in a run directory."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from crystrata.errors import Interrupted, ModelError, StorageError, UsageError
from crystrata.files import lock, write_json, write_text
from crystrata.networks.device import resolve_device
from crystrata.reports.tables import terminal_official, terminal_table
from crystrata.runs.config import NOT_RESULT, RunConfig, mode_in_words
from crystrata.runs.directory import CHECKPOINT, CONFIG, HISTORY, MANIFEST, OUTLIERS, RUN_LOCK, SPLITS, create_run_dir
from crystrata.runs.manifest import end_manifest, read_manifest, start_manifest, update_manifest
from crystrata.runs.registry import register_run
from crystrata.runs.slurm import job_id, was_requeued
from crystrata.training.engine import train
from crystrata.training.stopping import StopRequest
from crystrata.workflows.evaluation import evaluate_run
from crystrata.workflows.preparation import PreparedData, prepare_data


def run_tier(config: RunConfig, command: list[str], console: Console) -> Path:
    """Train, evaluate and document a new run; return its directory.

    Raises:
        CrystrataError: Data, configuration or storage does not allow it; the manifest then says `failed`.
    """
    resolve_device(config.device)
    run = create_run_dir(config.family_dir, config.run_id)
    with lock(run / RUN_LOCK):
        write_json(run / CONFIG, config.as_dict())
        start_manifest(run, config, command)
        return _carry_out(run, config, console)


def resume_tier(run: Path, config: RunConfig, command: list[str], console: Console) -> Path:
    """Continue a run from its latest checkpoint; one that had finished is only evaluated and documented again.

    A run that another process is still carrying out is waited for, never written by two.

    Args:
        run: Directory of the run.
        config: Its saved configuration, with a new number of epochs if one was asked for.
        command: The command line, for the manifest.
        console: Where progress goes.

    Raises:
        UsageError: The crystals or the split are no longer those that the run was started with.
    """
    resolve_device(config.device)
    with lock(run / RUN_LOCK):
        for leftover in run.glob(".*.part"):  # of a process that was killed while it wrote
            leftover.unlink()
        before, saved = read_manifest(run), _saved_config(run)
        prepared = prepare_data(config, console)
        _require_same_data(run, before, prepared)
        finished = before["status"] == "completed" and config.epochs == saved.epochs
        write_json(run / CONFIG, config.as_dict())
        update_manifest(run, status="running", error=None, ended=None, resumed=command, config_digest=config.digest())
        return _carry_out(run, config, console, prepared, finished=finished)


def _require_same_data(run: Path, before: dict[str, Any], prepared: PreparedData) -> None:
    digests = {
        "crystals": lambda facts: facts["source"]["digest"],
        "a split": lambda facts: facts["split"]["digest"],
        "labels": lambda facts: facts["labels_digest"],
    }
    for words, digest in digests.items():
        if "labels_digest" in before and digest(before) != digest(prepared.facts):
            raise UsageError(
                f"{run} was started with other {words} ({before['source']['name']}): name the same source and file"
            )


def find_resumable(config: RunConfig, named: str | None) -> tuple[Path, RunConfig]:
    """Return the run to continue and its configuration.

    Args:
        config: What the command line asks for.
        named: Path or name of a run; None takes the newest one of the same family, mode and properties.

    Raises:
        ModelError: There is no such run, or it has no checkpoint yet.
        UsageError: The command line contradicts the run's configuration.
    """
    if named:
        candidates = [path for path in (Path(named), config.family_dir / named) if (path / CONFIG).is_file()]
    else:
        candidates = [
            path
            for path in config.family_dir.glob("run_*")
            if (path / CHECKPOINT).is_file() and _same_kind(_saved_config(path), config)
        ]
    if not candidates:
        where = named or f"{config.family_dir} ({config.algorithm}, {mode_in_words(config.mode)})"
        raise ModelError(f"no run to resume at {where}: none there has a {CONFIG if named else CHECKPOINT}")
    run = max(candidates, key=_last_written)
    saved = _saved_config(run)
    wanted = replace(saved, epochs=config.epochs, patience=config.patience, **_where(config))
    if wanted.digest() != config.digest():
        old, new = saved.as_dict(), config.as_dict()
        free = {*NOT_RESULT, "epochs", "patience"}
        differing = [f"{key} {old[key]} -> {new[key]}" for key in old if old[key] != new[key] and key not in free]
        raise UsageError(
            f"{run} was started with other settings ({'; '.join(differing)}): give the same, or start anew"
        )
    return run, wanted


def run_of_job(config: RunConfig) -> Path | None:
    """Return the run that this SLURM job was carrying out before it was requeued, or None."""
    if not was_requeued():
        return None
    runs = [path.parent for path in config.family_dir.glob(f"run_*/{MANIFEST}")]
    mine = [run for run in runs if _is_of_job(read_manifest(run), config)]
    return max(mine, key=_last_written, default=None)


def _is_of_job(manifest: dict[str, Any], config: RunConfig) -> bool:
    return manifest.get("slurm_job") == job_id() and manifest["config_digest"] == config.digest()


def _last_written(run: Path) -> int:
    return max(path.stat().st_mtime_ns for path in (run / CONFIG, run / CHECKPOINT) if path.is_file())


def _where(config: RunConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in NOT_RESULT if name != "run_id"}


def _saved_config(run: Path) -> RunConfig:
    try:
        return RunConfig.from_dict(json.loads((run / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{run / CONFIG} is missing or damaged: {error}") from None


def _same_kind(saved: RunConfig, config: RunConfig) -> bool:
    keys = ("algorithm", "mode", "properties", "encoder", "size")
    return all(getattr(saved, key) == getattr(config, key) for key in keys)


def _carry_out(
    run: Path, config: RunConfig, console: Console, resumed: PreparedData | None = None, *, finished: bool = False
) -> Path:
    """Train (unless finished), evaluate, document; `resumed` is the data of a run that is continued."""
    started = time.perf_counter()
    try:
        with StopRequest(console) as stop:
            results = _train_and_evaluate(run, config, console, stop, resumed, finished=finished)
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt | Interrupted) else "failed"
        end_manifest(run, status, error=f"{type(error).__name__}: {error}")
        with suppress(StorageError):  # what went wrong first is what the user must read
            register_run(run, config)
        raise
    end_manifest(run, "completed", hours=results["hours"], wall_hours=(time.perf_counter() - started) / 3600)
    register_run(run, config)
    console.print(terminal_table(results))
    if results["official_tests"]:
        console.print(terminal_official(results))
    console.print(f"Run directory: {run}", soft_wrap=True)
    return run


def _train_and_evaluate(
    run: Path, config: RunConfig, console: Console, stop: StopRequest, resumed: PreparedData | None, *, finished: bool
) -> dict[str, Any]:
    prepared = resumed or prepare_data(config, console)
    write_json(run / SPLITS, prepared.data.split.as_dict(prepared.data.dataset.ids))
    write_text(run / OUTLIERS, prepared.outliers.table.to_csv(index=False, float_format="%.6g"))
    update_manifest(run, **prepared.facts)
    _announce(config, prepared.facts, console)
    if not finished:
        facts, going_on = prepared.weights_facts(config), (run / CHECKPOINT).is_file()
        train(config, prepared.data, run, facts=facts, console=console, stop=stop, resume=going_on)
    history = json.loads((run / HISTORY).read_text(encoding="utf-8"))
    with console.status("evaluating"):
        results = evaluate_run(run, config, prepared, history)
    update_manifest(run, best_epoch=results["best_epoch"], score=results["score"])
    return results


def _announce(config: RunConfig, facts: dict[str, Any], console: Console) -> None:
    sizes = ", ".join(f"{count} {part}" for part, count in facts["crystals"].items())
    source = facts["source"]["name"] + (" (DEMO: labels are not DFT)" if facts["source"]["demo"] else "")
    console.print(
        f"{config.algorithm}, {mode_in_words(config.mode)}, {len(config.properties)} properties; "
        f"{source}: {sizes} crystals; {config.epochs} epochs of batches of {config.batch_size}",
    )
