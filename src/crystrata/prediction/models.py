"""Finding and loading the model that predicts: the newest suitable run, or the one that was named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crystrata.crystals.hull import ReferenceHull, formula_counts
from crystrata.errors import ModelError
from crystrata.networks.device import resolve_device
from crystrata.networks.multitask import MultiTaskNetwork
from crystrata.networks.weights import unpack_network
from crystrata.properties import NINE
from crystrata.runs.directory import BEST
from crystrata.runs.manifest import read_manifest
from crystrata.runs.registry import serves_inference
from crystrata.training.checkpoints import read_checkpoint

FAMILIES = ("multitask_pro_e3nn", "multitask_std_e3nn", "multitask_cgcnn")
"""Families that inference looks through, best first; lite runs and demo or smoke runs only if named."""


@dataclass(frozen=True)
class TrainedModel:
    """A network ready to predict.

    Attributes:
        network: In evaluation mode, on its device.
        path: The weights file.
        facts: What is known about its training: data, best epoch, score, elements seen.
    """

    network: MultiTaskNetwork
    path: Path
    facts: dict[str, Any]

    @property
    def properties(self) -> tuple[str, ...]:
        """Properties the model predicts: those of the nine, or what it knows where it has none of them.

        Some may be derived from those that have a head.
        """
        known = tuple(self.facts["properties"])
        return tuple(name for name in known if name in NINE) or known

    def hull_energies(self, formulas: Sequence[str]) -> np.ndarray | None:
        """Return the hull energy at compositions, (n,) [eV/atom], or None where the model reports none."""
        if "hull" not in self.facts:
            return None
        hull = self.facts["hull"]
        reference = ReferenceHull(hull["counts"].numpy(), hull["energies"].numpy())
        return reference.at(formula_counts(formulas))


def load_model(path: Path, device: str = "auto") -> TrainedModel:
    """Load a model from a run directory or a weights file.

    Raises:
        ModelError: It is missing or damaged.
    """
    file = path / BEST if path.is_dir() else path
    network, facts = unpack_network(read_checkpoint(file))
    return TrainedModel(network.to(resolve_device(device)), file, facts)


def find_run(models_dir: Path, family: str | None = None) -> Path:
    """Return the newest suitable run: of the named family, else of the best family that has one.

    Demo, smoke and lite runs, and those of a leaderboard-only property alone, are passed over unless nothing but the
    family's name asks for them.

    Raises:
        ModelError: There is none; says how to get one.
    """
    for name in [family] if family else list(FAMILIES):
        runs = [path for path in (models_dir / name).glob("run_*") if (path / BEST).is_file()]
        suitable = runs if family else [run for run in runs if _suitable(run)]
        if suitable:
            return max(suitable, key=lambda run: ((run / BEST).stat().st_mtime_ns, run.name))
    where = models_dir / family if family else models_dir
    raise ModelError(
        f"no trained model under {where}: train one (run_phase2.py --level std --all-properties) "
        "or name a run with --run PATH (demo, smoke, lite and leaderboard runs are used only when named)"
    )


def _suitable(run: Path) -> bool:
    try:
        manifest = read_manifest(run)
    except ModelError:
        return False
    return (
        manifest.get("status") == "completed"
        and serves_inference(manifest.get("mode"), manifest.get("properties", NINE))
        and not manifest.get("source", {}).get("demo", False)
    )
