"""Several completed runs as one model: for each property the network, or the mean of networks, that validates best.

Selection reads the validation part alone; the result is a run directory like any other, evaluated once on the test
part. n validation crystals.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from crystrata.errors import ModelError, UsageError
from crystrata.files import lock, write_json, write_text
from crystrata.networks.multitask import MultiTaskNetwork
from crystrata.networks.weights import pack_members
from crystrata.prediction.inference import describe_graphs
from crystrata.prediction.models import load_model
from crystrata.properties import resolve_properties
from crystrata.reports.tables import terminal_official, terminal_table
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import BEST, HISTORY, OUTLIERS, RESULTS, RUN_LOCK, SPLITS, create_run_dir
from crystrata.runs.manifest import end_manifest, read_manifest, start_manifest, update_manifest
from crystrata.runs.registry import register_run
from crystrata.runs.seen import seen_before, trained_on
from crystrata.training.checkpoints import write_checkpoint
from crystrata.training.fit import label_spread
from crystrata.workflows.evaluation import evaluate_run
from crystrata.workflows.preparation import PreparedData, prepare_data
from crystrata.workflows.resumable import saved_config

_SAME = ("algorithm", "source", "release", "split", "seed", "graph", "outlier_filter", "outlier_z")
_MOST_MEMBERS = 3  # of one property: each costs a pass of its encoder
_GAIN = 0.002  # of the error, that one more member of a property must bring on validation


@dataclass(frozen=True)
class Part:
    """One of the runs: its directory, what was measured, its network.

    Attributes:
        run: Directory.
        config: Its configuration.
        hours: Its hours of training.
        network: Its best weights.
    """

    run: Path
    config: RunConfig
    hours: float
    network: MultiTaskNetwork


def combine_runs(
    runs: Sequence[Path], models_dir: Path, command: list[str], console: Console, run_id: str | None = None
) -> Path:
    """Make a run of several completed runs of one split; return its directory.

    Args:
        runs: Run directories; the first one names crystals, split and level.
        models_dir: Folder of all runs.
        command: The command line, for the manifest.
        console: Where progress goes.
        run_id: Name of the new run directory.

    Raises:
        UsageError: The runs are of different crystals or splits, or one was trained on what another is tested on.
        ModelError: A run is not completed, or a file of it is missing or damaged.
    """
    parts = [_part(run) for run in runs]
    first = parts[0].config
    for part in parts[1:]:
        differing = [name for name in _SAME if getattr(part.config, name) != getattr(first, name)]
        if differing:
            raise UsageError(
                f"{part.run} and {parts[0].run} differ in {', '.join(differing)}: they cannot be one model"
            )
    names = resolve_properties(name for part in parts for name in part.config.properties)
    config = replace(first, properties=names, models_dir=str(models_dir), start=None, run_id=run_id, single_task=False)
    prepared = prepare_data(config, console, seen=set().union(*(seen_before(part.run) for part in parts)))
    _require_unseen(parts, prepared)
    seen = set().union(*(trained_on(part.run) or () for part in parts))
    with console.status("validating the networks"):
        chosen, score = _choose(parts, prepared)
    run = create_run_dir(config.family_dir, run_id)
    with lock(run / RUN_LOCK):
        return _write(run, config, parts, chosen, score, prepared, seen, command, console)


def _part(run: Path) -> Part:
    manifest = read_manifest(run)
    if manifest["status"] != "completed":
        raise ModelError(f"{run} is {manifest['status']}, not completed: end it with --resume first")
    network = load_model(run / BEST).network
    if not isinstance(network, MultiTaskNetwork):
        raise UsageError(f"{run} is combined already: name the runs that it was made of")
    hours = json.loads((run / RESULTS).read_text(encoding="utf-8"))["hours"]
    return Part(run, saved_config(run), hours, network)


def _require_unseen(parts: Sequence[Part], prepared: PreparedData) -> None:
    """Refuse a run that was trained on a crystal that the combined run is validated or tested on."""
    split, ids = prepared.data.split, prepared.data.dataset.ids
    held = {ids[row] for row in (*split.val, *split.test)}
    for part in parts:
        if seen := held.intersection(trained_on(part.run) or ()):
            raise UsageError(
                f"{part.run} was trained on {len(seen)} crystals that are held out here, such as {min(seen)}"
            )


def _choose(parts: Sequence[Part], prepared: PreparedData) -> tuple[dict[str, list[int]], float]:
    """Return the parts that answer for each trained property, and the validation score of the combined answers."""
    dataset, split = prepared.data.dataset, prepared.data.split
    predicted = [describe_graphs(part.network, dataset.graphs, split.val).values for part in parts]
    spread = label_spread(dataset.targets[split.train])
    chosen, scores = {}, []
    for column, name in enumerate(dataset.properties):
        truth = dataset.targets[split.val, column]
        answers = {
            place: values[:, part.network.properties.index(name)]
            for place, (part, values) in enumerate(zip(parts, predicted, strict=True))
            if name in part.network.properties
        }
        chosen[name], error = select(answers, truth)
        if np.isfinite(error):
            scores.append(error / spread[column])
    return chosen, float(np.mean(scores))


def select(answers: dict[int, np.ndarray], truth: np.ndarray) -> tuple[list[int], float]:
    """Choose whose mean has the lowest absolute error, one after the other; return them and the error.

    Args:
        answers: Number -> predictions, (n,).
        truth: Labels, (n,), NaN where unknown; without any, the first answers.
    """
    known = np.isfinite(truth)
    chosen, best = [min(answers)], np.nan
    if not known.any():
        return chosen, best

    def error(members: Sequence[int]) -> float:
        mean = np.mean([answers[one][known] for one in members], axis=0)
        return float(np.abs(mean - truth[known]).mean())

    chosen, best = [], np.inf
    while len(chosen) < min(_MOST_MEMBERS, len(answers)):
        errors = {one: error([*chosen, one]) for one in answers if one not in chosen}
        nearest = min(errors, key=lambda one: errors[one])
        if errors[nearest] > best * (1 - _GAIN):
            break
        chosen, best = [*chosen, nearest], errors[nearest]
    return sorted(chosen), best


def _write(
    run: Path,
    config: RunConfig,
    parts: Sequence[Part],
    chosen: dict[str, list[int]],
    score: float,
    prepared: PreparedData,
    seen: set[str],
    command: list[str],
    console: Console,
) -> Path:
    """Write weights, evaluation and manifest of the combined run."""
    started = time.perf_counter()
    members, told = [], []
    for place, part in enumerate(parts):
        names = [name for name, places in chosen.items() if place in places]
        told.append({"run": part.run.resolve().name, "answers": names, "hours": part.hours})
        if names:
            members.append(part.network.only(names))
    manifest = read_manifest(parts[0].run)
    start_manifest(run, config, command, device=manifest.get("device"), members=told, **prepared.facts)
    facts = {**prepared.weights_facts(config), "best_epoch": None, "val_score": score}
    write_checkpoint(run / BEST, pack_members(members, facts))
    split, ids = prepared.data.split, prepared.data.dataset.ids
    before = tuple(sorted(seen.difference(ids[row] for row in split.train)))
    write_json(run / SPLITS, replace(split, seen_before=before).as_dict(ids))
    write_text(run / OUTLIERS, prepared.outliers.table.to_csv(index=False, float_format="%.6g"))
    history = json.loads((parts[0].run / HISTORY).read_text(encoding="utf-8"))
    write_json(run / HISTORY, history)
    hours = sum(part.hours for part in parts)
    with console.status("evaluating"):
        results = evaluate_run(run, config, prepared, history, hours=hours)
    update_manifest(run, score=results["score"])
    end_manifest(run, "completed", hours=hours, wall_hours=(time.perf_counter() - started) / 3600)
    register_run(run, config)
    _tell(told, results, console)
    console.print(f"Run directory: {run}", soft_wrap=True)
    return run


def _tell(told: Sequence[dict[str, Any]], results: dict[str, Any], console: Console) -> None:
    for member in told:
        console.print(f"{member['run']}: {', '.join(member['answers']) or 'nothing: another validates better'}")
    console.print(terminal_table(results))
    if results["official_tests"]:
        console.print(terminal_official(results))
