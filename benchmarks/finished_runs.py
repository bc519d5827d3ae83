"""What the page of accuracy reads of completed runs, and which of several runs of one split answers for a property."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from crystrata.datasets.splits import PROTOCOLS
from crystrata.datasets.splits.protocols import Protocol
from crystrata.errors import ModelError, UsageError
from crystrata.reports.tables import cell_text
from crystrata.runs.config import mode_in_words
from crystrata.runs.directory import CONFIG, HISTORY, RESULTS
from crystrata.runs.manifest import read_manifest

SELECTION = (
    "Where several networks were trained on the same parts, each property is answered by the one with the lowest "
    "validation MAE of that property: selected on validation, tested once."
)


@dataclass(frozen=True)
class FinishedRun:
    """A completed run.

    Attributes:
        name: Its directory's name without the prefix.
        results: Content of `results.json`.
        config: Content of `config.json`.
        manifest: Content of `run_manifest.json`.
        trained: Properties with a head of their own.
    """

    name: str
    results: dict[str, Any]
    config: dict[str, Any]
    manifest: dict[str, Any]
    trained: frozenset[str]

    @property
    def algorithm(self) -> str:
        """Track, e3nn or cgcnn."""
        return self.config["algorithm"]

    @property
    def protocol(self) -> str:
        """Protocol of its split as recorded, such as `union` or `random (sample)`."""
        return self.results["split"]["protocol"]

    @property
    def record(self) -> Protocol:
        """Row of the table of protocols."""
        return PROTOCOLS[self.protocol.partition(":")[0].partition(" ")[0]]

    @property
    def parts(self) -> tuple[str, str]:
        """What runs share whose figures compare: protocol and digest of the split."""
        return self.protocol, self.manifest["split"]["digest"]

    def mae(self, name: str, part: str) -> float | None:
        """Return the MAE of a property on `val` or `test`, or None without a label or head."""
        figures = self.results["properties"].get(name, {}).get(part)
        return figures["mae"] if figures else None

    def row(self) -> dict[str, str]:
        """Return its row in a table of networks."""
        return {
            "network": self.name,
            "kind": f"{self.config['encoder']}, {mode_in_words(self.config['mode'])}",
            "trained on": f"{self.results['split']['train']:,}, seed {self.results['split']['seed']}",
            "epochs, best": f"{self.config['epochs']}, {self.results['best_epoch']}",
            "device": self.manifest.get("device", "not recorded"),
            "hours": cell_text(self.results["hours"], 3),
        }


def read_run(run: Path) -> FinishedRun:
    """Return what a run directory holds.

    Raises:
        CrystrataError: It is no completed run.
    """
    manifest = read_manifest(run)
    if manifest["status"] != "completed":
        raise UsageError(f"{run} is {manifest['status']}, not completed")
    try:
        results, config, history = (
            json.loads((run / name).read_text(encoding="utf-8")) for name in (RESULTS, CONFIG, HISTORY)
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"{run} is no whole run directory: {error}") from None
    name = run.name.removeprefix("run_")
    return FinishedRun(name, results, config, manifest, frozenset(history[-1]["val_mae"]))


def answering(runs: Iterable[FinishedRun], name: str) -> FinishedRun | None:
    """Return the run with the lowest validation MAE of a property, the first of equals; None where none reports it."""
    reporting = [run for run in runs if name in run.results["properties"]]
    return min(reporting, key=lambda run: inf if (mae := run.mae(name, "val")) is None else mae, default=None)


def of(runs: Iterable[FinishedRun], algorithm: str) -> list[FinishedRun]:
    """Return the runs of a track."""
    return [run for run in runs if run.algorithm == algorithm]


def by_parts(runs: Iterable[FinishedRun]) -> list[list[FinishedRun]]:
    """Return the runs in groups that share their parts, in the order given."""
    groups: dict[tuple[str, str], list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(run.parts, []).append(run)
    return list(groups.values())


def heading(runs: Sequence[FinishedRun]) -> str:
    """Return protocol and meaning of the split that runs share."""
    words = runs[0].record.words
    return f"{runs[0].protocol}\n\n{words[0].upper()}{words[1:]}."


def hours(runs: Iterable[FinishedRun]) -> str:
    """Return the training hours of some runs together."""
    return f"{cell_text(float(sum(run.results['hours'] for run in runs)), 3)} h of training together"
