"""Runs to break and to compare: short, on the demo crystals, with all that a state can hide in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from crystrata.runs.directory import BEST, CHECKPOINT, HISTORY
from drills.child import start

_E3NN = ("--level", "lite", "--max-samples", "80", "--epochs", "3", "--properties", "formation_energy,piezoelectric")
_CGCNN = (
    "--algorithm", "cgcnn", "--level", "smoke", "--max-samples", "120", "--batch-size", "8", "--lr", "0.1",
    "--epochs", "4", "--properties", "formation_energy,band_gap",
)  # fmt: skip

KINDS: dict[str, tuple[str, ...]] = {
    "e3nn": _E3NN,
    "e3nn accumulated": ("--level", "pro", "--size", "small", "--max-samples", "120", "--epochs", "3"),
    "cgcnn": _CGCNN,
    "cgcnn, 2 workers": (*_CGCNN, "--workers", "2"),
}
"""Cosine and plateau schedules, moving average and learned task weights in all; dropout comes from `child`."""


class Bench:
    """A place for runs of one kind, and the run that was never cut.

    Args:
        kind: Row of `KINDS`.
        scratch: Folder of the drill.
        data_dir: Folder of stores and hulls that all runs share.
    """

    def __init__(self, kind: str, scratch: Path, data_dir: Path) -> None:
        self.kind, self.scratch, self.data_dir = kind, scratch / kind.replace(" ", "_"), data_dir
        self.straight = self.begin("straight")
        self.straight.join()
        self.expected = state_of(self.run("straight"))

    def begin(self, name: str, *flags: str, environment: dict[str, str] | None = None) -> Any:
        """Start or continue (`--resume`) the run of that name; return its process."""
        where = ("--source", "demo", "--data-dir", str(self.data_dir), "--models-dir", str(self.scratch / name))
        (self.scratch / name / "steps").unlink(missing_ok=True)
        arguments = [*KINDS[self.kind], *where, "--device", "cpu", *flags]
        return start(arguments, self.scratch / name, environment=environment)

    def run(self, name: str) -> Path:
        """Return the directory of the run of that name."""
        (run,) = (self.scratch / name).glob("*/run_*")
        return run

    def steps(self, name: str) -> int:
        """Return the steps that the last process of a run carried out."""
        counter = self.scratch / name / "steps"
        return counter.stat().st_size if counter.is_file() else 0

    def output(self, name: str) -> str:
        """Return what the processes of a run printed."""
        return (self.scratch / name / "output").read_text()

    def difference(self, name: str) -> str:
        """Return in what a finished run differs from the one that was never cut; empty where in nothing."""
        try:
            found = state_of(self.run(name))
        except (OSError, ValueError) as error:
            return f"{self.kind}: {error}"
        names = self.expected.keys() | found.keys()
        differing = [name for name in names if not _equal(self.expected.get(name), found.get(name))]
        return f"{self.kind}: differs in {', '.join(sorted(differing)[:5])}" if differing else ""


def state_of(run: Path) -> dict[str, Any]:
    """Return every tensor of weights and checkpoint and every record of the history, by name; clocks left out."""
    state: dict[str, Any] = {}
    for name in (BEST, CHECKPOINT):
        _flatten(torch.load(run / name, weights_only=True), name, state)
    for number, record in enumerate(json.loads((run / HISTORY).read_text())):
        state[f"history {number}"] = {key: value for key, value in record.items() if key != "seconds"}
    return state


def _flatten(value: Any, name: str, into: dict[str, Any]) -> None:
    if isinstance(value, torch.Tensor):
        into[name] = value
    elif isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            _flatten(part, f"{name}/{key}", into)
    elif not name.endswith(("seconds", "RunArtifacts/history")):  # clocks
        into[name] = value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return bool(one == other)
