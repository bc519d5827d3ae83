"""The model matrix as data: tiers x (nine single-task models + one multi-task model), and the baseline beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystrata.errors import ModelError, UsageError, unknown_name
from crystrata.jarvis_properties import NINE, resolve_properties
from crystrata.presets import ALGORITHMS, LEVELS
from crystrata.runs.config import RunConfig, resolve_config
from crystrata.runs.directory import BEST, CHECKPOINT
from crystrata.runs.manifest import read_manifest
from crystrata.runs.registry import RunEntry

TIERS = ("lite", "std", "pro")
"""Tiers of the matrix; other levels join where they are named."""

SINGLE, MULTI, BASELINE = "single", "multi", "cgcnn"
KINDS = (SINGLE, MULTI, BASELINE)
"""Columns of each tier: e3nn specialists, e3nn for all nine properties, CGCNN for all nine."""


@dataclass(frozen=True)
class Cell:
    """One model of the matrix.

    Attributes:
        tier: Its level.
        kind: Column within the tier.
        config: The run that fills it.
        flags: What the user gave for all cells, as typed on a command line.
    """

    tier: str
    kind: str
    config: RunConfig
    flags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`lite single band_gap`, `std multi`."""
        return " ".join((self.tier, self.kind, *(self.config.properties if self.kind == SINGLE else ())))

    @property
    def command(self) -> list[str]:
        """The command that trains the same model on its own, for a scheduler."""
        if self.kind == SINGLE:
            what = ["train_singletask.py", "--level", self.tier, "--property", self.config.properties[0]]
        else:
            what = ["run_phase2.py", "--algorithm", self.config.algorithm, "--level", self.tier, "--all-properties"]
        return ["python", f"scripts/phase2_multitask/{what[0]}", *what[1:], *self.flags]


def matrix_cells(
    tiers: Sequence[str] = TIERS,
    properties: Sequence[str] | None = None,
    algorithms: Sequence[str] = ALGORITHMS,
    **overrides: Any,
) -> list[Cell]:
    """Return the cells of some tiers: e3nn single-task, e3nn multi-task, CGCNN multi-task; tier by tier.

    Args:
        tiers: Levels.
        properties: Properties of the single-task cells; the word `multi` among them asks for the multi-task cells.
            Not given means all nine and `multi`.
        algorithms: Tracks.
        **overrides: Fields of `RunConfig` for all cells; None means not given.

    Raises:
        UsageError: A name is unknown, or nothing is left to train.
    """
    for tier in tiers:
        if tier not in LEVELS:
            raise unknown_name("tier", tier, LEVELS)
    for algorithm in algorithms:
        if algorithm not in ALGORITHMS:
            raise unknown_name("algorithm", algorithm, ALGORITHMS)
    named = [name for name in properties or () if name != MULTI]
    multi = properties is None or MULTI in properties
    for name in named:
        if name not in NINE:
            raise unknown_name("property of the matrix", name, NINE)
    single = NINE if properties is None else resolve_properties(named) if named else ()
    flags = _as_flags(overrides)
    cells = []
    for tier in LEVELS:
        if tier not in tiers:
            continue
        if "e3nn" in algorithms:
            for name in single:
                config = resolve_config("e3nn", tier, properties=[name], single_task=True, **overrides)
                cells.append(Cell(tier, SINGLE, config, flags))
        for algorithm, kind in (("e3nn", MULTI), ("cgcnn", BASELINE)):
            if multi and algorithm in algorithms:
                config = resolve_config(algorithm, tier, properties=NINE, **overrides)
                cells.append(Cell(tier, kind, config, flags))
    if not cells:
        raise UsageError("these --tiers, --properties and --algorithms leave no cell: CGCNN has multi-task cells alone")
    return cells


def completed_run(cell: Cell, entries: Sequence[RunEntry], source_digest: str) -> RunEntry | None:
    """Return the latest run that fills a cell on these crystals, or None.

    The registry says which runs completed; a run whose folder is gone, or that is being continued, does not count.
    """
    for entry in reversed(entries):
        if entry.completed and (entry.config_digest, entry.source_digest) == (cell.config.digest(), source_digest):
            run = Path(cell.config.models_dir) / entry.path
            if (run / BEST).is_file() and _manifest(run).get("status") == "completed":
                return entry
    return None


def unfinished_run(cell: Cell, source_digest: str) -> Path | None:
    """Return the run of a cell on these crystals that has a checkpoint but did not complete, or None."""
    found = []
    for run in cell.config.family_dir.glob("run_*"):
        manifest = _manifest(run)
        same = manifest.get("config_digest") == cell.config.digest() and (
            manifest.get("source", {}).get("digest") == source_digest
        )
        if same and manifest["status"] != "completed" and (run / CHECKPOINT).is_file():
            found.append(run)
    return max(found, key=lambda run: ((run / CHECKPOINT).stat().st_mtime_ns, run.name), default=None)


def _manifest(run: Path) -> dict[str, Any]:
    try:
        return read_manifest(run)
    except ModelError:
        return {}


def _as_flags(overrides: dict[str, Any]) -> tuple[str, ...]:
    flags: list[str] = []
    for name, value in overrides.items():
        if value is not None:
            flags += ["--" + name.replace("_", "-"), str(value)]
    return tuple(flags)
