"""Which crystals the weights of a run were trained on, by itself and by the runs that it started from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crystrata.errors import ModelError
from crystrata.runs.directory import SPLITS


def trained_on(source: Path) -> set[str] | None:
    """Return the ids of all crystals that some weights have seen; None where no run directory tells.

    Args:
        source: Run directory, or a weights file in one.

    Raises:
        ModelError: What the directory tells is damaged.
    """
    parts = _parts(source if source.is_dir() else source.parent)
    return None if parts is None else {*parts["train"], *parts.get("seen_before", ())}


def untold(source: Path) -> str:
    """Return what to say where no run directory tells what some weights have seen."""
    return f"no {SPLITS} beside {source}: whether it was trained on what is held out here is not known"


def seen_before(run: Path) -> set[str]:
    """Return the ids of the crystals that a run was not trained on itself, but its start was.

    Raises:
        ModelError: What the directory tells is damaged.
    """
    return set((_parts(run) or {}).get("seen_before", ()))


def _parts(run: Path) -> dict[str, Any] | None:
    if not (run / SPLITS).is_file():
        return None
    try:
        parts = json.loads((run / SPLITS).read_text(encoding="utf-8"))
        return {"train": parts["train"], **parts}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{run / SPLITS} is damaged: {error}") from None
