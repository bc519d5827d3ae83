"""A completed run as a folder to share: weights, description and model card."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from crystrata.design.trained import with_compositions
from crystrata.errors import ModelError, UsageError
from crystrata.files import read_json, write_text
from crystrata.networks.model_folder import write_model_folder
from crystrata.prediction.calibration import read_calibration
from crystrata.reports.model_card import EvaluatedRun, model_card
from crystrata.reports.tables import DEMO_CAPTION
from crystrata.runs.directory import BEST, RESULTS
from crystrata.runs.find import CARD, DEFAULT_MODEL, DESCRIPTION
from crystrata.runs.manifest import read_completed
from crystrata.training.checkpoints import read_checkpoint

_RESERVED = ("best", "latest")  # `--model` means others by them


def export_model(run: Path, output: Path, name: str | None = None, evaluated: Path | None = None) -> Path:
    """Write the folder of a completed run, named as the run if not given; one that holds this run already is replaced.

    `evaluated` is a run of the same kind whose official tests the card gives, where this run has none of its own.

    Raises:
        UsageError: The name cannot be that of a folder, the folder exists and holds something else, or the evaluated
            run has no official tests of the same tasks.
        ModelError: The run is not completed, or a file of it is missing or damaged.
        StorageError: The disk is full or the folder cannot be written.
    """
    name = run.resolve().name if name is None else name
    if not re.fullmatch(r"\w[\w.-]*", name) or name in _RESERVED:
        raise UsageError(f"--name must be a plain folder name of letters, digits, _ . and -, not {name!r}")
    manifest, results = _completed(run)
    folder, origin = output / name, {"name": run.resolve().name, "started": manifest["started"]}
    content = read_checkpoint(run / BEST)
    demo = content["facts"]["source"]["demo"]
    if demo and name == DEFAULT_MODEL:
        raise UsageError(f"--name {name} is the model that predicts where none is named: a demo run cannot be it")
    if calibration := read_calibration(run / BEST):
        content = {**content, "calibration": calibration.as_tensors()}
    if content["network"].get("composition"):
        content = with_compositions(content, run, results)
    metrics = None if evaluated is None else _metrics_of(evaluated, run, results)
    _require_free(folder, origin)
    about: dict[str, Any] = {"name": name, "run": origin, "crystrata": manifest["versions"]["crystrata"]}
    if demo:
        about["notice"] = DEMO_CAPTION
    if metrics:
        about["figures_of"] = metrics.name
    description = write_model_folder(folder, content, {**about, "score": results["score"]})
    write_text(folder / CARD, model_card(description, results, manifest, metrics))
    return folder


def _completed(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return manifest and results of a run."""
    return read_completed(run), read_json(run / RESULTS, ModelError, "--resume evaluates the run again")


def _metrics_of(evaluated: Path, run: Path, results: dict[str, Any]) -> EvaluatedRun:
    manifest, tested = _completed(evaluated)
    if not tested["official_tests"] or set(tested["tasks"]) != set(results["tasks"]):
        raise UsageError(
            f"--figures-of {evaluated}: it has no official tests of the properties of {run}: "
            "name a run by `--split union` of the same properties"
        )
    return EvaluatedRun(evaluated.resolve().name, tested, manifest)


def _require_free(folder: Path, origin: dict[str, str]) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    advice = f"choose another --name or --output than {folder}, or remove it"
    try:
        same = read_json(folder / DESCRIPTION, UsageError, advice)["run"] == origin
    except (UsageError, KeyError, TypeError):
        same = False
    if not same:
        raise UsageError(
            f"{folder} exists and does not hold run {origin['name']}: choose another --name or --output, or remove it"
        )
