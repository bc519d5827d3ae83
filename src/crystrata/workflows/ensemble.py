"""Several completed runs as one model: for each task the network, or the mean of networks, that validates best.

Selection reads the validation part alone; the result is a run directory like any other, evaluated once on the test
part. n validation materials.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from crystrata.errors import ModelError, UsageError
from crystrata.files import lock, read_json, write_json, write_text
from crystrata.networks.ensemble import Ensemble
from crystrata.networks.network import Network
from crystrata.networks.training_record import TrainingRecord
from crystrata.networks.weights import pack_members
from crystrata.prediction.inference import evaluate_rows
from crystrata.prediction.trained_model import load_model
from crystrata.reports.tables import print_tables
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import BEST, HISTORY, OUTLIERS, RESULTS, RUN_LOCK, SPLITS, create_run_dir
from crystrata.runs.find import saved_config
from crystrata.runs.manifest import end_manifest, read_completed, read_manifest, start_manifest, update_manifest
from crystrata.runs.registry import register_run
from crystrata.training.checkpoints import write_checkpoint
from crystrata.workflows.evaluate import evaluate_run
from crystrata.workflows.prepare import Prepared, prepare

_SAME = ("algorithm", "source", "release", "split", "seed", "graph", "outlier_filter", "outlier_z")
_MOST_MEMBERS = 3  # of one task: each costs a pass of its encoder
_GAIN = 0.002  # of the error, that one more member of a task must bring on validation


@dataclass(frozen=True)
class Member:
    """One of the runs, with its hours of training, its best weights as a network, and what it was trained on."""

    run: Path
    config: RunConfig
    hours: float
    network: Network
    record: TrainingRecord


def ensemble_runs(
    runs: Sequence[Path], models_dir: Path, command: list[str], console: Console, run_id: str | None = None
) -> Path:
    """Make a run of several completed runs of one split; return its directory.

    The first run names materials, split and level.

    Raises:
        UsageError: The runs are of different materials or splits, or one was trained on what another is tested on.
        ModelError: A run is not completed, or a file of it is missing or damaged.
    """
    members = [_member(run) for run in runs]
    first = members[0].config
    for member in members[1:]:
        differing = [name for name in _SAME if getattr(member.config, name) != getattr(first, name)]
        if differing:
            raise UsageError(
                f"{member.run} and {members[0].run} differ in {', '.join(differing)}: they cannot be one model"
            )
    tasks = {task.name: task for member in members for task in member.config.tasks}
    order = Ensemble([member.network for member in members]).task_names
    names = [*(name for name in order if name in tasks), *(name for name in tasks if name not in order)]
    chosen_tasks = tuple(tasks[name] for name in names)
    config = replace(
        first, tasks=chosen_tasks, models_dir=str(models_dir), start=None, run_id=run_id, single_task=False
    )
    record = reduce(TrainingRecord.joined, (member.record for member in members))
    prepared = prepare(config, console, earlier=_of_starts(members))
    _require_unseen(members, prepared)
    with console.status("validating the networks"):
        chosen, score = _choose(members, prepared)
    run = create_run_dir(config.family_dir, run_id)
    with lock(run / RUN_LOCK):
        return _write(run, config, members, chosen, score, prepared, record, command, console)


def _member(run: Path) -> Member:
    read_completed(run)
    model = load_model(run / BEST)
    if isinstance(model.network, Ensemble):
        raise UsageError(f"{run} is an ensemble already: name the runs that it was made of")
    if model.record is None:
        raise ModelError(f"{run} does not say what it was trained on, as an earlier version made it: train it again")
    hours = read_json(run / RESULTS, ModelError, "evaluate the run again with --resume")["hours"]
    return Member(run, saved_config(run), hours, model.network, model.record)


def _of_starts(members: Sequence[Member]) -> TrainingRecord | None:
    """Return what the members were trained on outside of their own training part: by the runs they started from."""
    seen = set[str]()
    for member in members:
        split = read_json(member.run / SPLITS, ModelError, "train the run again")
        seen.update(split.get("seen_before", ()))
    return TrainingRecord.of(sorted(seen), sorted(seen), {}) if seen else None


def _require_unseen(members: Sequence[Member], prepared: Prepared) -> None:
    """Refuse a run that was trained on a material that the ensemble is validated or tested on."""
    split, ids = prepared.split, prepared.dataset.ids
    held = [ids[row] for row in (*split.val, *split.test)]
    for member in members:
        seen = member.record.saw(held)
        if seen.any():
            example = min(name for name, there in zip(held, seen, strict=True) if there)
            raise UsageError(
                f"{member.run} was trained on {seen.sum()} materials that are held out here, such as {example}"
            )


def _choose(members: Sequence[Member], prepared: Prepared) -> tuple[dict[str, list[int]], float]:
    """Return the members that predict each trained task, and the validation score of the combined predictions."""
    dataset, split = prepared.dataset, prepared.split
    predicted = [evaluate_rows(member.network, dataset, split.val).values for member in members]
    targets, chosen, scores = dataset.training_targets(), {}, []
    for task in dataset.tasks:
        name = task.name
        own = {place: values[name] for place, values in enumerate(predicted) if name in values}
        chosen[name], error = select(own, dataset.labels[name].numbers[split.val])
        if np.isfinite(error):
            head = next(member.network.head(name) for member in members if name in member.network.heads)
            scores.append(error / head.error_scale(targets[name]))
    return chosen, float(np.mean(scores))


def select(predictions: dict[int, np.ndarray], truth: np.ndarray) -> tuple[list[int], float]:
    """Choose whose mean has the lowest absolute error, one after the other; return them and the error.

    Predictions, by number, and labels are (n,), NaN where unknown; without a label the first is chosen.
    """
    known = np.isfinite(truth)
    chosen, best = [min(predictions)], np.nan
    if not known.any():
        return chosen, best

    def error(members: Sequence[int]) -> float:
        mean = np.mean([predictions[one][known] for one in members], axis=0)
        return float(np.abs(mean - truth[known]).mean())

    chosen, best = [], np.inf
    while len(chosen) < min(_MOST_MEMBERS, len(predictions)):
        errors = {one: error([*chosen, one]) for one in predictions if one not in chosen}
        nearest = min(errors, key=lambda one: errors[one])
        if errors[nearest] > best * (1 - _GAIN):
            break
        chosen, best = [*chosen, nearest], errors[nearest]
    return sorted(chosen), best


def _write(
    run: Path, config: RunConfig, members: Sequence[Member], chosen: dict[str, list[int]], score: float,
    prepared: Prepared, record: TrainingRecord, command: list[str], console: Console,
) -> Path:  # fmt: skip
    """Write weights, evaluation and manifest of the ensemble."""
    started = time.perf_counter()
    networks, listed = [], list[dict[str, Any]]()
    for place, member in enumerate(members):
        names = [name for name, places in chosen.items() if place in places]
        listed.append({"run": member.run.resolve().name, "predicts": names, "hours": member.hours})
        if names:
            networks.append(member.network.only(names))
    manifest = read_manifest(members[0].run)
    start_manifest(run, config, command, device=manifest.get("device"), members=listed, **prepared.facts)
    facts = {**prepared.weights_facts(config), "best_epoch": None, "val_score": score}
    write_checkpoint(run / BEST, pack_members(networks, facts, record))
    split, ids = prepared.split, prepared.dataset.ids
    outside = np.setdiff1d(np.flatnonzero(record.saw(ids)), split.train)
    before = tuple(sorted(ids[row] for row in outside))
    write_json(run / SPLITS, replace(split, seen_before=before).as_dict(ids))
    write_text(run / OUTLIERS, prepared.outliers.table.to_csv(index=False, float_format="%.6g"))
    history = read_json(members[0].run / HISTORY, ModelError, "train the run again")
    write_json(run / HISTORY, history)
    hours = sum(member.hours for member in members)
    with console.status("evaluating"):
        results = evaluate_run(run, config, prepared, history, hours=hours)
    update_manifest(run, score=results["score"])
    end_manifest(run, "completed", hours=hours, wall_hours=(time.perf_counter() - started) / 3600)
    register_run(run, config)
    for one in listed:
        console.print(f"{one['run']}: {', '.join(one['predicts']) or 'nothing: another validates better'}")
    print_tables(results, console)
    console.print(f"Run directory: {run}", soft_wrap=True)
    return run
