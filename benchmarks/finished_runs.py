"""What the page of accuracy reads of completed runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystrata.datasets.splits import PROTOCOLS
from crystrata.datasets.splits.protocols import Protocol
from crystrata.errors import ModelError, UsageError
from crystrata.reports.tables import cell_text
from crystrata.runs.config import mode_in_words
from crystrata.runs.directory import RESULTS
from crystrata.runs.manifest import read_manifest


@dataclass(frozen=True)
class FinishedRun:
    """A completed run.

    Attributes:
        name: Its directory's name without the prefix.
        results: Content of `results.json`.
        manifest: Content of `run_manifest.json`.
    """

    name: str
    results: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def algorithm(self) -> str:
        """Track, e3nn or cgcnn."""
        return self.manifest["algorithm"]

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
        figures = self.results["tasks"].get(name, {}).get(part)
        return figures["mae"] if figures else None

    def rows(self) -> list[dict[str, str]]:
        """Return its rows in a table of networks: its own, and those of the runs that it was made of."""
        split = self.results["split"]
        own = {
            "network": self.name,
            "kind": f"{self.algorithm}, {mode_in_words(self.manifest['mode'])}",
            "trained on": f"{split['train']:,}, seed {split['seed']}",
            "device": self.manifest.get("device", "not recorded"),
            "hours": cell_text(self.results["hours"], 3),
        }
        parts = [
            {
                "network": f"- {part['run'].removeprefix('run_')}",
                "kind": f"answers {', '.join(part['answers']) or 'nothing'}",
                "hours": cell_text(part["hours"], 3),
            }
            for part in self.manifest.get("members", [])
        ]
        return [own, *parts]


def read_run(run: Path) -> FinishedRun:
    """Return what a run directory holds.

    Raises:
        CrystrataError: It is no completed run.
    """
    manifest = read_manifest(run)
    if manifest["status"] != "completed":
        raise UsageError(f"{run} is {manifest['status']}, not completed")
    try:
        results = json.loads((run / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{run} is no whole run directory: {error}") from None
    return FinishedRun(run.name.removeprefix("run_"), results, manifest)


def of(runs: Iterable[FinishedRun], algorithm: str) -> FinishedRun | None:
    """Return the run of a track, or None.

    Raises:
        UsageError: There are several, so that one would have to be chosen.
    """
    found = [run for run in runs if run.algorithm == algorithm]
    if len(found) > 1:
        names = " and ".join(run.name for run in found)
        raise UsageError(
            f"{names} are {algorithm} runs on the same parts: give one, or make one with crystrata ensemble"
        )
    return found[0] if found else None


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
