"""Which model predicts: the one that is named, a run that the registry lists, or the shipped one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crystrata.errors import ModelError, nearest
from crystrata.properties import NINE
from crystrata.runs.directory import BEST
from crystrata.runs.entry import RunEntry
from crystrata.runs.registry import REGISTRY, read_registry
from crystrata.runs.shipped import DEFAULT_MODEL, find_shipped

FAMILIES = ("multitask_pro_e3nn", "multitask_std_e3nn", "multitask_cgcnn")
"""Families that inference looks through, best first."""

_CHECKS = ("smoke", "lite")  # levels that check the pipeline


def find_run(models_dir: Path, name: str | None = None, family: str | None = None) -> Path:
    """Return the run or the folder of the shipped model that predicts.

    The registry's completed runs with weights are the candidates.

    Args:
        models_dir: Folder of all runs.
        name: `latest` is the run that completed last, of whatever kind. `best` passes over demo, smoke and lite runs,
            and those of a leaderboard-only property alone. Validation scores compare only between runs on the same
            crystals, split and properties: `best` starts from the run with the most of the nine properties, then the
            most training crystals, then the latest end, and takes the lowest score comparable to it. Anything else is
            the name of a shipped model, or a path, which goes first and is taken as it stands. Not given: the newest
            run of the first of `FAMILIES` that has one, with what `best` passes over left out; where there is none,
            the shipped model `DEFAULT_MODEL`.
        family: With no name: the newest run of this family, of whatever kind.

    Raises:
        ModelError: There is none; says how to get one.
    """
    if name not in (None, "best", "latest"):
        shipped = None if Path(name).exists() else find_shipped(models_dir, name)
        return shipped or Path(name)
    usable = [entry for entry in read_registry(models_dir) if entry.completed and _weights(models_dir, entry).is_file()]
    checked = [entry for entry in usable if _predicts_unasked(entry)]
    if name == "latest":
        chosen = usable[-1:]
    elif name == "best":
        chosen = _best(checked)
    elif family:
        chosen = [entry for entry in usable if entry.family == family][-1:]
    else:
        first = next((one for one in FAMILIES if any(entry.family == one for entry in checked)), None)
        chosen = [entry for entry in checked if entry.family == first][-1:]
    if not chosen and name is None and family is None and (shipped := find_shipped(models_dir)):
        return shipped
    if not chosen:
        raise _none_found(models_dir, name, family, usable)
    return models_dir / chosen[0].path


def _predicts_unasked(entry: RunEntry) -> bool:
    """Whether a run is no check of the pipeline, no demo, and of one of the nine properties."""
    return entry.mode not in _CHECKS and not entry.demo and not set(NINE).isdisjoint(entry.properties)


def _best(entries: Sequence[RunEntry]) -> list[RunEntry]:
    def comparable(entry: RunEntry) -> tuple[Any, ...]:
        return entry.source_digest, entry.split_digest, entry.properties

    if not entries:
        return []
    newest_first = list(reversed(entries))  # of equals, `max` and `min` take the first
    widest = max(newest_first, key=lambda entry: (len({*entry.properties} & {*NINE}), entry.train_crystals or 0))
    rivals = [entry for entry in newest_first if comparable(entry) == comparable(widest)]
    return [min(rivals, key=lambda entry: float("inf") if entry.val_score is None else entry.val_score)]


def _weights(models_dir: Path, entry: RunEntry) -> Path:
    return models_dir / entry.path / BEST


def _none_found(models_dir: Path, name: str | None, family: str | None, usable: Sequence[RunEntry]) -> ModelError:
    asked = f" for --run {name}" if name else ""
    if family:
        asked = f" for --family {family}{nearest(family, {entry.family for entry in usable})}"
    elif usable:
        kinds = "demo, smoke, lite and leaderboard" if name else "demo, smoke, lite, single-task and leaderboard"
        asked += f" ({len(usable)} {kinds} runs are used only when named)"
    shipped = "" if name or family else f", nor is there a shipped model {DEFAULT_MODEL} (`crystrata export` makes one)"
    return ModelError(
        f"no trained model under {models_dir}{asked}: {REGISTRY} there lists no such completed run with weights"
        f"{shipped}; train one (run_phase2.py --level std --all-properties) or name a run with --run PATH"
    )
