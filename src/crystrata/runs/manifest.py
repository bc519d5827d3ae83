"""The run manifest: what was run, on what, from which code and data, and how it ended."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import crystrata
from crystrata.errors import ModelError
from crystrata.files import read_json, write_json
from crystrata.jarvis_properties import NINE
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import MANIFEST
from crystrata.runs.slurm import job_id

_PACKAGES = (
    "torch", "e3nn", "lightning", "torch-geometric", "numpy", "numba", "pandas", "pymatgen", "ase", "jarvis-tools",
)  # fmt: skip


def start_manifest(run: Path, config: RunConfig, command: list[str], **facts: Any) -> None:
    """Write the manifest of a run that starts; its status is `running`."""
    write_json(
        run / MANIFEST,
        {
            "status": "running",
            "algorithm": config.algorithm,
            "mode": config.mode,
            "all_properties": set(NINE) <= set(config.properties),
            "properties": list(config.properties),
            "seed": config.seed,
            "command": command,
            "config_digest": config.digest(),
            "started": _now(),
            "versions": versions(),
            "platform": platform.platform(),
            "git": git_state(),
            **({"slurm_job": job_id()} if job_id() else {}),
            **facts,
        },
    )


def update_manifest(run: Path, **facts: Any) -> None:
    """Change entries of a run's manifest, atomically; an entry that becomes None is left out."""
    changed = {**read_manifest(run), **facts}
    write_json(run / MANIFEST, {name: value for name, value in changed.items() if value is not None})


def end_manifest(run: Path, status: str, **facts: Any) -> None:
    """Record how a run ended: `completed`, `failed` or `interrupted`."""
    update_manifest(run, status=status, ended=_now(), **facts)


def read_manifest(run: Path) -> dict[str, Any]:
    """Return the manifest of a run.

    Raises:
        ModelError: It is missing or damaged.
    """
    manifest: dict[str, Any] = read_json(run / MANIFEST, ModelError, "is it a run directory?")
    return manifest


def read_completed(run: Path) -> dict[str, Any]:
    """Return the manifest of a completed run; that of another is a ModelError."""
    manifest = read_manifest(run)
    if manifest["status"] != "completed":
        raise ModelError(f"{run} is {manifest['status']}, not completed: finish it with --resume first")
    return manifest


def versions() -> dict[str, str]:
    """Return the versions of Python, of Crystrata and of the packages that decide results."""
    found = {"python": sys.version.split()[0], "crystrata": crystrata.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_state() -> dict[str, Any] | None:
    """Return commit and cleanness of the source tree, or None outside one."""
    folder = Path(__file__).parent
    try:
        commit, status = (
            subprocess.run(
                ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
            ).stdout
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.strip(), "clean": not status.strip()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
