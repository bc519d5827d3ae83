"""The registry: one line in `models/registry.jsonl` for each run that ended, never changed afterwards.

Several processes may append at once. A run that is continued gets another line, and its last line counts. A line that a
crash cut short is skipped with a warning. `models/registry.csv` is the same for a spreadsheet.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from crystrata.errors import StorageError
from crystrata.files import lock, storage_errors, write_text
from crystrata.jarvis_properties import PROPERTIES, get_property
from crystrata.runs.config import RunConfig
from crystrata.runs.entry import RunEntry, entry_of

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
    return pd.DataFrame(rows).to_csv(index=False)
