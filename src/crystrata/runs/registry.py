"""The registry: one line in `models/registry.jsonl` for each run that ended: what it was, on what, how it ended and how
good it is. A line is never changed afterwards.

Several processes may append at once. A run that is continued gets another line, and its last line counts. A line that a
crash cut short is skipped with a warning. `models/registry.csv` is the same for a spreadsheet.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from crystrata.errors import ModelError, StorageError
from crystrata.files import lock, read_json, storage_errors, write_text
from crystrata.jarvis_properties import PROPERTIES, get_property
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import RESULTS
from crystrata.runs.manifest import read_manifest


@dataclass(frozen=True)
class RunEntry:
    """One run that ended.

    Attributes:
        run_id: Name of the run directory.
        path: The directory, relative to the models folder.
        status: `completed`, `failed` or `interrupted`.
        started: Time of the start.
        ended: Time of the end.
        error: Why it did not complete, or None.
        family: Folder under the models folder.
        algorithm: Track, or `composition`.
        mode: Level or profile; `tasks` for tables of one's own.
        encoder: Names of the encoders.
        size: Row of the size table.
        single_task: Whether it is a single-property specialist.
        properties: Names of the tasks.
        seed: Seed of the run.
        config_digest: Digest of everything in the configuration that decides the result.
        source: Name of the data source; None, like every fact of the data, where the run ended before it was open.
        source_digest: Digest of its crystals.
        demo: Whether its labels are those of the demo crystals.
        split: Protocol of the split.
        split_digest: Digest of the ids of its parts.
        train_crystals: Materials in the training part.
        val_mae: Validation MAE of each property in its unit; empty, as other metrics are None, without an evaluation.
        test_mae: Test MAE of each property in its unit.
        val_score: Mean of MAE / MAD on validation, by which the weights were chosen.
        score: 100 x mean skill on test.
        balanced_score: Score less log2(1 + hours).
        hours: Training time.
        versions: Of Crystrata, Python and the packages that decide results.
    """

    run_id: str
    path: str
    status: str
    started: str
    ended: str
    error: str | None
    family: str
    algorithm: str
    mode: str
    encoder: str
    size: str
    single_task: bool
    properties: tuple[str, ...]
    seed: int
    config_digest: str
    source: str | None
    source_digest: str | None
    demo: bool | None
    split: str | None
    split_digest: str | None
    train_crystals: int | None
    val_mae: dict[str, float]
    test_mae: dict[str, float]
    val_score: float | None
    score: float | None
    balanced_score: float | None
    hours: float | None
    versions: dict[str, str]

    @property
    def completed(self) -> bool:
        """Whether the run was trained and evaluated to its end."""
        return self.status == "completed"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunEntry:
        """Make an entry from the values of a line; keys that a later version added are left out.

        Raises:
            TypeError: A key is missing, or the line holds something else.
        """
        if not isinstance(values, dict):
            raise TypeError("a line of the registry is a JSON object")
        known = {entry.name for entry in fields(cls)}
        kept = {key: value for key, value in values.items() if key in known}
        return cls(**{**kept, "properties": tuple(kept.get("properties", ()))})


def entry_of(run: Path, config: RunConfig) -> RunEntry:
    """Return the entry of a run that ended, from its manifest and, where it completed, its results.

    Raises:
        ModelError: The run has no readable manifest.
    """
    manifest = read_manifest(run)
    completed = manifest["status"] == "completed"
    results = read_json(run / RESULTS, ModelError, "evaluate the run again with --resume") if completed else {}
    source, split = manifest.get("source", {}), manifest.get("split", {})
    folder = Path(config.models_dir).resolve()
    place = run.resolve()
    return RunEntry(
        run_id=run.name,
        path=(place.relative_to(folder) if place.is_relative_to(folder) else place).as_posix(),
        status=manifest["status"],
        started=manifest["started"],
        ended=manifest["ended"],
        error=None if completed else manifest.get("error"),
        family=config.family,
        algorithm=config.algorithm,
        mode=config.mode,
        encoder=config.encoder,
        size=config.size,
        single_task=config.single_task,
        properties=config.properties,
        seed=config.seed,
        config_digest=manifest["config_digest"],
        source=source.get("name"),
        source_digest=source.get("digest"),
        demo=source.get("demo"),
        split=split.get("protocol"),
        split_digest=split.get("digest"),
        train_crystals=manifest.get("materials", {}).get("train"),
        val_mae=_maes(results, "val"),
        test_mae=_maes(results, "test"),
        val_score=results.get("val_score"),
        score=results.get("score"),
        balanced_score=results.get("balanced_score"),
        hours=results.get("hours"),
        versions=manifest["versions"],
    )


def _maes(results: dict[str, Any], part: str) -> dict[str, float]:
    return {
        name: parts[part]["mae"] for name, parts in results.get("tasks", {}).items() if "mae" in (parts.get(part) or {})
    }


REGISTRY = "registry.jsonl"
REGISTRY_CSV = "registry.csv"
_LOCK = ".registry.lock"


def register_run(run: Path, config: RunConfig) -> RunEntry:
    """Append a run that ended to the registry of its models folder, and rewrite the csv form.

    Raises:
        ModelError: The run has no readable manifest.
        StorageError: The registry cannot be written; a csv form that cannot is only warned of.
    """
    entry, folder = entry_of(run, config), Path(config.models_dir)
    with lock(folder / _LOCK):
        _append(folder / REGISTRY, json.dumps(asdict(entry)).encode() + b"\n")
        try:
            write_text(folder / REGISTRY_CSV, _as_csv(read_registry(folder)))
        except StorageError as error:  # a spreadsheet under Windows holds it: no reason to call the run failed
            warnings.warn(f"{error} The next run writes it.", stacklevel=2)
    return entry


def _append(path: Path, line: bytes) -> None:
    with storage_errors(path), open(path, "a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # cut short by a crash: it must not swallow the new line
                line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_registry(models_dir: Path) -> list[RunEntry]:
    """Return the last entry of each run in the order in which they ended; nothing where there is no registry."""
    path, entries = models_dir / REGISTRY, dict[str, RunEntry]()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            entry = RunEntry.from_dict(json.loads(line))
        except (ValueError, TypeError):
            warnings.warn(f"{path}, line {number} is damaged and skipped", stacklevel=2)
            continue
        entries.pop(entry.path, None)
        entries[entry.path] = entry
    return list(entries.values())


def _as_csv(entries: Sequence[RunEntry]) -> str:
    rows = []
    for entry in entries:
        row = asdict(entry)
        row["properties"] = " ".join(entry.properties)
        row["crystrata"] = row.pop("versions").get("crystrata")
        for part in ("val_mae", "test_mae"):
            maes = row.pop(part)
            row |= {f"{part} {get_property(name).column}": maes.get(name) for name in PROPERTIES}
        rows.append(row)
    import pandas as pd

    return pd.DataFrame(rows).to_csv(index=False)
