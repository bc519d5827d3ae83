"""One line of the registry: what a run was, on what, how it ended and how good it is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from crystrata.errors import ModelError
from crystrata.files import read_json
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
