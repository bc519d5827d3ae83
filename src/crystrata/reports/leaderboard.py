"""Whole official tests, those that compare with the JARVIS leaderboard: predictions and errors of a run, and the folder
of a contribution made from a completed one: predictions, metadata and `run.sh`. n test crystals.
"""

from __future__ import annotations

import io
import os
import shlex
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crystrata.datasets.materials import Materials
from crystrata.datasets.splits import Split
from crystrata.errors import ModelError, UsageError
from crystrata.files import read_json, storage_errors, write_bytes, write_json, write_text
from crystrata.jarvis_properties import PUBLISHED
from crystrata.runs.directory import OFFICIAL, RESULTS, SPLITS
from crystrata.runs.manifest import read_completed
from crystrata.tasks import Task

COLUMNS = ("benchmark", "id", "label", "prediction")
METADATA = "metadata.json"
SCRIPT = "run.sh"
ROUNDING = 5e-5
"""The leaderboard shows four decimals."""

_SOFTWARE = ("crystrata", "torch", "e3nn", "lightning", "numpy", "pandas", "jarvis-tools")
_LEFT_OUT = ("--data-dir", "--models-dir", "--run-id", "--resume")  # of one machine: they do not change the result
_FILES = ("--data-file", "--splits-file")


def official_predictions(
    split: Split, materials: Materials, tasks: Sequence[Task], predicted: Mapping[str, np.ndarray],
    details: Mapping[str, np.ndarray],
) -> pd.DataFrame:  # fmt: skip
    """Return what a run predicts for every official test that the split holds and a task of the run predicts.

    `predicted` and `details` are predictions of tasks of one number and further outputs of the heads on the test part,
    (n,) each. There is one row per benchmark and crystal, with `COLUMNS`: label (NaN where unknown) and prediction in
    the label's unit.
    """
    predicting, answers = _predicting(tasks), []
    for benchmark, rows in split.official_tests.items():
        if benchmark in predicting and materials.table is not None:
            task = predicting[benchmark]
            values = _component(task, benchmark, predicted[task.name], details)
            columns = {
                "benchmark": benchmark,
                "id": [materials.ids[row] for row in rows],
                "label": materials.table[benchmark].to_numpy(dtype=np.float64)[rows],
                "prediction": values[np.searchsorted(split.test, rows)],
            }
            answers.append(pd.DataFrame(columns, columns=list(COLUMNS)))
    return pd.concat(answers, ignore_index=True) if answers else pd.DataFrame(columns=list(COLUMNS))


def official_figures(
    answers: pd.DataFrame, tasks: Sequence[Task], materials: Materials, train: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Return the metrics of official tests, whose `answers` are those of `official_predictions`.

    Returns:
        Benchmark -> `property`, `ids` (crystals of the official test), `n` (those with a label), `mae` over these and
        `median_mae`, that of predicting the median training label (None without any), in the label's unit, and the
        published `cgcnn` and `alignn`.
    """
    figures, predicting = dict[str, dict[str, Any]](), _predicting(tasks)
    if materials.table is None:
        return figures
    train_labels = materials.table.iloc[train]
    for name, rows in answers.groupby("benchmark", sort=False):
        benchmark = str(name)
        known, published = rows.dropna(subset="label"), PUBLISHED[benchmark]
        median = train_labels[benchmark].median()
        figures[benchmark] = {
            "property": predicting[benchmark].name,
            "ids": len(rows),
            "n": len(known),
            "mae": float((known["prediction"] - known["label"]).abs().mean()) if len(known) else None,
            "median_mae": float((known["label"] - median).abs().mean()) if len(known) else None,
            "cgcnn": published.cgcnn,
            "alignn": published.alignn,
        }
    return figures


def _predicting(tasks: Sequence[Task]) -> dict[str, Task]:
    return {column: task for task in tasks for column in task.columns}


def _component(task: Task, benchmark: str, predicted: np.ndarray, details: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the prediction of a label column, (n,): the head's own component where it tells one, else the value."""
    title = dict(zip(task.columns, task.components, strict=False)).get(benchmark, "")
    component = details.get(title, np.full(len(predicted), np.nan))
    return np.where(np.isfinite(component), component, predicted)


@dataclass(frozen=True)
class Contributor:
    """What only a person knows about a contribution; the names are those of `metadata.json`.

    Attributes:
        model_name: Name of the model on the leaderboard.
        team_name: Who hands it in.
        author_email: Where the leaderboard's editors can write to.
        project_url: Page of the project.
        git_url: Repositories of the code.
        hardware_used: What trained it, or None for what the run recorded.
    """

    model_name: str
    team_name: str
    author_email: str
    project_url: str
    git_url: tuple[str, ...]
    hardware_used: str | None = None


def file_name(benchmark: str) -> str:
    """Return the name of the file that answers a benchmark."""
    return f"AI-SinglePropertyPrediction-{benchmark}-dft_3d-test-mae.csv.zip"


def write_contribution(run: Path, contributor: Contributor, folder: Path) -> dict[str, float | None]:
    """Write the folder of a contribution, whole or not at all.

    Returns:
        Name of each file of predictions -> its MAE in the unit of the label, None where no label is known.

    Raises:
        ModelError: The run is not completed, or what it saved is damaged or contradicts itself.
        UsageError: Its split has no whole official test, or trains on tested crystals; or the folder exists.
        StorageError: The folder cannot be written.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists: choose another --output, or remove it")
    manifest, results = read_completed(run), read_json(run / RESULTS, ModelError, "is it a run directory?")
    hardware = contributor.hardware_used or manifest.get("device")
    if not hardware:
        raise UsageError(f"{run} did not record what it was trained on: give --hardware")
    archives, maes = _checked_archives(run, results)
    metadata = {
        **asdict(contributor),
        "hardware_used": hardware,
        "date_submitted": date.today().strftime("%m-%d-%Y"),
        "time_taken_seconds": dict.fromkeys(archives, round(3600 * results["hours"])),
        "software_used": ", ".join(f"{name} {manifest['versions'][name]}" for name in _SOFTWARE),
        "database_version": manifest["source"]["name"],
        "language": "python",
        "os": manifest["platform"].partition("-")[0].lower(),
    }
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as unfinished:
            building = Path(unfinished) / folder.name
            for name, content in archives.items():
                write_bytes(building / name, content)
            write_json(building / METADATA, metadata)
            write_text(building / SCRIPT, run_script(manifest))
            os.chmod(building / SCRIPT, 0o755)
            os.rename(building, folder)
    return maes


def _checked_archives(run: Path, results: Mapping[str, Any]) -> tuple[dict[str, bytes], dict[str, float | None]]:
    """Return file name -> content and file name -> MAE of every official test, as the leaderboard would find it."""
    figures, split = results["official_tests"], read_json(run / SPLITS, ModelError, "is it a run directory?")
    if not figures:
        raise UsageError(
            f"{run} (--split {split['protocol']}) holds no whole official test of its properties: train with --split "
            "union, or --split official:<benchmark> for the benchmarks of one group, and without --max-samples"
        )
    answers, trained = _read_answers(run), {*split["train"], *split["val"]}
    archives, maes = {}, {}
    for benchmark, figure in figures.items():
        official, rows = split["official_tests"][benchmark], answers[answers["benchmark"] == benchmark]
        if leaked := trained.intersection(official):
            raise UsageError(
                f"{run} (--split {split['protocol']}) trained on {len(leaked)} crystals of the official test "
                f"{benchmark}, {min(leaked)} among them: train with --split union or --split official:{benchmark}"
            )
        name = file_name(benchmark)
        archives[name] = archive_of(rows, name.removesuffix(".zip"))
        maes[name] = _checked_mae(f"{run / OFFICIAL}, {benchmark}", archives[name], rows, official, figure)
    return archives, maes


def _checked_mae(
    where: str, archive: bytes, rows: pd.DataFrame, official: list[str], figure: Mapping[str, Any]
) -> float | None:
    """Return the MAE of an archive, read as the leaderboard reads it; what is wrong with it is an error."""
    found = pd.read_csv(io.BytesIO(archive), compression="zip", dtype={"id": str})
    if found["id"].duplicated().any():
        raise ModelError(f"{where}: {found['id'][found['id'].duplicated()].iloc[0]} is there twice")
    if len(official) != figure["ids"] or set(found["id"]) != set(official):
        raise ModelError(f"{where}: {len(found)} ids are not the {figure['ids']} of the official test")
    if not np.isfinite(found["prediction"]).all():
        raise ModelError(f"{where}: {found['id'][~np.isfinite(found['prediction'])].iloc[0]} has no prediction")
    error = (found["prediction"].to_numpy() - rows["label"].to_numpy())[rows["label"].notna().to_numpy()]
    mae = float(np.abs(error).mean()) if len(error) else None
    if (mae is None) != (figure["mae"] is None) or (mae is not None and abs(mae - figure["mae"]) >= ROUNDING):
        raise ModelError(f"{where}: its MAE {mae} is not that of {RESULTS}, {figure['mae']}")
    return mae


def archive_of(rows: pd.DataFrame, member: str) -> bytes:
    """Return a zip with one member of the columns id and prediction, the same bytes on every machine and day."""
    content = io.BytesIO()
    entry = zipfile.ZipInfo(member, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr, entry.compress_type = 3, 0o644 << 16, zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(content, "w") as archive:
        text = rows[["id", "prediction"]].to_csv(index=False, float_format="%.9g", lineterminator="\n")
        archive.writestr(entry, text)
    return content.getvalue()


def run_script(manifest: Mapping[str, Any]) -> str:
    """Return a script that repeats a run from its recorded command, that of the last start where it was continued.

    Folders and names of the machine are left out; files keep their name, and are looked for in the current folder.
    """
    program, *flags = manifest.get("resumed", manifest["command"])
    called = f"python scripts/phase2_multitask/{program}" if program.endswith(".py") else program
    versions, source = manifest["versions"], manifest["source"]
    git = manifest.get("git") or {"commit": "unknown", "clean": True}
    lines = (
        "#!/bin/sh",
        f"# Crystrata {versions['crystrata']}, commit {git['commit']}{'' if git['clean'] else ' with changes'}.",
        f"# Python {versions['python']}, torch {versions['torch']}.",
        f"# Data: {source['name']}, digest of its crystals {source['digest']}.",
        "set -e",
        " ".join([called, *map(shlex.quote, _portable(flags))]),
    )
    return "\n".join(lines) + "\n"


def _portable(flags: list[str]) -> list[str]:
    """Return flags without what belongs to one machine."""
    words = [word for flag in flags for word in (flag.split("=", 1) if flag.startswith("--") else [flag])]
    portable: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if word not in _LEFT_OUT and (word.startswith("--") or before not in _LEFT_OUT):
            portable.append(Path(word).name if before in _FILES else word)
    return portable


def _read_answers(run: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(run / OFFICIAL, dtype={"benchmark": str, "id": str})
    except FileNotFoundError:
        raise ModelError(
            f"{run} has no {OFFICIAL}, because an earlier version evaluated it: give its training command again with "
            f"--resume {run.name}, which only evaluates a completed run"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{run / OFFICIAL} cannot be read: {error}") from None
