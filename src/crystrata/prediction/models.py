"""The model that predicts, loaded from a run, a weights file or the folder of a shipped model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystrata.hull import CONVENTIONS, Levels, ReferenceHull, formula_counts
from crystrata.networks.device import resolve_device
from crystrata.networks.model_folder import read_model_folder
from crystrata.networks.weights import Network, unpack_network
from crystrata.prediction.calibration import Calibration, read_calibration
from crystrata.properties import NINE
from crystrata.runs.directory import BEST
from crystrata.runs.shipped import WEIGHTS, is_model_folder
from crystrata.training.checkpoints import read_checkpoint


@dataclass(frozen=True)
class TrainedModel:
    """A network ready to predict.

    Attributes:
        network: In evaluation mode, on its device.
        path: The weights file.
        facts: What is known about its training: data, best epoch, score, elements seen.
        calibration: What its errors were on validation crystals; None where it has not been calibrated.
    """

    network: Network
    path: Path
    facts: dict[str, Any]
    calibration: Calibration | None = None

    @property
    def properties(self) -> tuple[str, ...]:
        """Properties the model predicts: those of the nine, or what it knows where it has none of them.

        Some may be derived from those that have a head.
        """
        known = tuple(self.facts["properties"])
        return tuple(name for name in known if name in NINE) or known

    def levels(self, formulas: Sequence[str]) -> dict[str, Levels]:
        """Return where n compositions lie over the hulls that the model knows, property -> levels."""
        counts, hulls = formula_counts(formulas), self.facts.get("hulls", {})
        references = {
            name: ReferenceHull(CONVENTIONS[name], hull["counts"].numpy(), hull["energies"].numpy())
            for name, hull in hulls.items()
            if name in self.properties
        }
        return {name: reference.at(counts) for name, reference in references.items()}


def load_model(path: Path, device: str = "auto") -> TrainedModel:
    """Load a model from a run directory, the folder of a shipped model, or the weights file of either.

    Raises:
        ModelError: It is missing or damaged.
    """
    folder = path.parent if path.name == WEIGHTS else path
    if is_model_folder(folder):
        file, content = folder / WEIGHTS, read_model_folder(folder)
        tensors = content.get("calibration")
        calibration = Calibration.from_tensors(tensors) if tensors else None
    else:
        file = path / BEST if path.is_dir() else path
        content, calibration = read_checkpoint(file), read_calibration(file)
    network, facts = unpack_network(content)
    return TrainedModel(network.to(resolve_device(device)), file, facts, calibration)
