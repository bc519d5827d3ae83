"""A completed run as a folder to share: weights, description and model card."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from crystrata.design.trained import with_compositions
from crystrata.errors import ModelError, UsageError
from crystrata.files import write_text
from crystrata.networks.model_folder import write_model_folder
from crystrata.networks.weights import unpack_network
from crystrata.prediction.calibration import read_calibration
from crystrata.reports.composition_card import composition_card
from crystrata.reports.model_card import EvaluatedRun, model_card
from crystrata.reports.tables import DEMO_CAPTION
from crystrata.runs.directory import BEST, RESULTS
from crystrata.runs.manifest import read_manifest
from crystrata.runs.shipped import CARD, DEFAULT_MODEL, DESCRIPTION
from crystrata.training.checkpoints import read_checkpoint

_RESERVED = ("best", "latest")  # `--run` means others by them


def export_model(run: Path, output: Path, name: str | None = None, evaluated: Path | None = None) -> Path:
    """Write the folder of a completed run; one that holds this run already is written anew.

    Args:
        run: Run directory.
        output: Where the folder is made.
        name: Its name; that of the run directory if not given.
        evaluated: Run of the same kind whose official tests the card gives, where this run has none of its own.

    Returns:
        The folder.

    Raises:
        UsageError: The name cannot be that of a folder, the folder exists and holds something else, or the evaluated
            run has no official tests of the same properties.
        ModelError: The run is not completed, or a file of it is missing or damaged.
        StorageError: The disk is full or the folder cannot be written.
    """
    name = run.resolve().name if name is None else name
    if not re.fullmatch(r"\w[\w.-]*", name) or name in _RESERVED:
        raise UsageError(f"--name must be a plain folder name of letters, digits, _ . and -, not {name!r}")
    manifest, results = _completed(run)
    folder, origin = output / name, {"name": run.resolve().name, "started": manifest["started"]}
    about = {"name": name, "run": origin, "crystrata": manifest["versions"]["crystrata"]}
    content = read_checkpoint(run / BEST)
    if "tasks" in results:
        if evaluated is not None:
            raise UsageError(f"--figures-of is for models of crystals, and {run} is one of compositions")
        _require_free(folder, origin)
        description = write_model_folder(folder, with_compositions(content, run, results), about)
        write_text(folder / CARD, composition_card(description, results, manifest))
        return folder
    _, facts = unpack_network(content)
    if facts["source"]["demo"] and name == DEFAULT_MODEL:
        raise UsageError(f"--name {name} is the model that predicts where none is named: a demo run cannot be it")
    if calibration := read_calibration(run / BEST):
        content = {**content, "calibration": calibration.as_tensors()}
    figures = None if evaluated is None else _figures_of(evaluated, run, results)
    _require_free(folder, origin)
    if facts["source"]["demo"]:
        about["notice"] = DEMO_CAPTION
    if figures:
        about["figures_of"] = figures.name
    description = write_model_folder(folder, content, {**about, "score": results["score"]})
    write_text(folder / CARD, model_card(description, results, manifest, figures))
    return folder


def _completed(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return manifest and results of a run."""
    manifest = read_manifest(run)
    if manifest["status"] != "completed":
        raise ModelError(f"{run} is {manifest['status']}, not completed: end it with --resume first")
    try:
        return manifest, json.loads((run / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{run} has no readable {RESULTS}: {error}; --resume evaluates it again") from None


def _figures_of(evaluated: Path, run: Path, results: dict[str, Any]) -> EvaluatedRun:
    manifest, tested = _completed(evaluated)
    if not tested["official_tests"] or set(tested["properties"]) != set(results["properties"]):
        raise UsageError(
            f"--figures-of {evaluated}: it has no official tests of the properties of {run}: "
            "name a run by `--split union` of the same properties"
        )
    return EvaluatedRun(evaluated.resolve().name, tested, manifest)


def _require_free(folder: Path, origin: dict[str, str]) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        same = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["run"] == origin
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise UsageError(
            f"{folder} exists and does not hold run {origin['name']}: choose another --name or --output, or remove it"
        )
