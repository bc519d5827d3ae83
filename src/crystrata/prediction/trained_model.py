"""The model that predicts, loaded from a run, a weights file or the folder of a shipped model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crystrata.compositions.descriptors import DescriptorSource, descriptor_source
from crystrata.errors import ModelError
from crystrata.hull import CONVENTIONS, Levels, ReferenceHull, formula_counts
from crystrata.jarvis_properties import NINE, PROPERTIES
from crystrata.networks.device import resolve_device
from crystrata.networks.ensemble import Ensemble
from crystrata.networks.network import Network
from crystrata.networks.training_record import TrainingRecord
from crystrata.networks.weights import unpack_network
from crystrata.prediction.calibration import Calibration, read_calibration
from crystrata.runs.directory import BEST
from crystrata.runs.find import WEIGHTS, find_model, is_model_folder
from crystrata.tasks import Task
from crystrata.training.starting_weights import read_weights


@dataclass(frozen=True)
class TrainedModel:
    """A network ready to predict.

    Attributes:
        network: In evaluation mode, on its device.
        path: The weights file.
        facts: What is known about its training: data, best epoch, score, elements seen.
        calibration: What its errors were on validation materials; None where it has not been calibrated.
        record: What it was trained on; None where that is not known.
    """

    network: Network | Ensemble
    path: Path
    facts: dict[str, Any]
    calibration: Calibration | None = None
    record: TrainingRecord | None = None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks the model predicts, some derived: of the properties the nine, or what it knows if none of them."""
        known = {task.name: task for task in self.network.tasks}
        names = tuple(self.facts["properties"])
        shown = names if any(name not in PROPERTIES for name in names) else [name for name in names if name in NINE]
        return tuple(known.get(name) or PROPERTIES[name] for name in (shown or names))

    @property
    def properties(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(task.name for task in self.tasks)

    @property
    def descriptors(self) -> DescriptorSource | None:
        """Where the descriptors that the network reads come from; None where it reads none."""
        if not self.network.reads_compositions:
            return None
        facts = self.facts["descriptor"]
        source = descriptor_source(**{name: one for name, one in facts.items() if name not in ("width", "digest")})
        if facts["kind"] != "table" and source.digest != facts["digest"]:
            raise ModelError(f"{self.path} was trained with another table of element features: train it again")
        return source

    def predict(self, items: Any, *, interval: float = 90.0) -> pd.DataFrame:
        """Predict materials; see `crystrata.prediction.predict.predict_files` for the columns.

        Args:
            items: One or several: paths of structure files, structures of pymatgen or ASE, crystals, or formulas.
            interval: Share of labels that the intervals are to cover [%]; 0 makes none.

        Raises:
            UsageError: An item is of another type, or the interval no percentage below 100.
        """
        from crystrata.prediction.predict import materials_of, predict

        return predict(self, materials_of(items, self), interval=interval)

    def embed(self, items: Any) -> pd.DataFrame:
        """Return the latents of materials; see `predict` for what items are, and `crystrata.prediction.predict.embed`.

        The columns `0`, `1`, ... are float32; `id` and `formula` say what a row is, `error` why it is NaN.
        """
        from crystrata.prediction.predict import embed, materials_of

        return embed(self, materials_of(items, self))

    def levels(self, formulas: Sequence[str]) -> dict[str, Levels]:
        """Return where n compositions lie over the hulls that the model knows, property -> levels."""
        counts, hulls = formula_counts(formulas), self.facts.get("hulls", {})
        references = {
            name: ReferenceHull(CONVENTIONS[name], hull["counts"].numpy(), hull["energies"].numpy())
            for name, hull in hulls.items()
            if name in self.properties
        }
        return {name: reference.at(counts) for name, reference in references.items()}

    def describe(self, formulas: Sequence[str]) -> np.ndarray | None:
        """Return the descriptors of formulas, (n, D) float32, NaN where unknown; None where the network reads none."""
        source = self.descriptors
        if source is None:
            return None
        found = np.full((len(formulas), len(source.names)), np.nan, dtype=np.float32)
        values, valid = source.describe(list(formulas))
        found[valid] = values[valid]
        return found


def load_model(path: Path, device: str = "auto") -> TrainedModel:
    """Load a model from a run directory, the folder of a shipped model, or the weights file of either.

    Raises:
        ModelError: It is missing or damaged.
    """
    folder, content = path.parent if path.name == WEIGHTS else path, read_weights(path)
    if is_model_folder(folder):
        file, tensors = folder / WEIGHTS, content.get("calibration")
        calibration = Calibration.from_tensors(tensors) if tensors else None
    else:
        file = path / BEST if path.is_dir() else path
        calibration = read_calibration(file)
    network, facts = unpack_network(content)
    record = TrainingRecord.from_content(content)
    return TrainedModel(network.to(resolve_device(device)), file, facts, calibration, record)


def load(name: str | Path | None = None, *, models_dir: str | Path = "models", device: str = "auto") -> TrainedModel:
    """Load the model that a name or path stands for; the shipped model of crystals if not given.

    Args:
        name: A shipped model, `best`, `latest`, a run directory, a weights file, or the folder of a model.
        models_dir: Folder of all runs.
        device: Where it computes: auto, cpu or cuda.

    Raises:
        ModelError: There is no such model, or it is damaged.
    """
    return load_model(find_model(Path(models_dir), None if name is None else str(name)), device)


def predict(items: Any, *, model: str | Path | None = None, interval: float = 90.0) -> pd.DataFrame:
    """Predict materials with the model that a name or path stands for; see `load` and `TrainedModel.predict`."""
    return load(model).predict(items, interval=interval)


def embed(items: Any, *, model: str | Path | None = None) -> pd.DataFrame:
    """Return the latents of materials by the model that a name or path stands for; see `TrainedModel.embed`."""
    return load(model).embed(items)
