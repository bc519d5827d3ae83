"""NequIP (Batzner et al., 2022) in its presets, energy alone, on Crystrata's edges."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from nequip.model import PresetNequIPGNNModel
from nequip.utils.global_state import set_global_state

from peers.sample import Sample
from peers.torch_settings import Learner, as_stated, steps, tensor
from peers.worker import Case


def training(sample: Sample, preset: str, batch: int) -> Case:
    """Steps of a preset."""
    return steps(learner(sample, preset), sample, batch)


def learner(sample: Sample, preset: str) -> Learner:
    """A preset."""
    set_global_state()
    as_stated()
    elements = np.unique(sample.numbers)
    model = PresetNequIPGNNModel(
        preset=preset, seed=0, model_dtype="float32", r_max=8.0, type_names=[f"T{number}" for number in elements],
        avg_num_neighbors=sample.edges_per_atom, do_derivatives=False,
    )  # fmt: skip
    facts = {"edges per atom": sample.edges_per_atom, "versions": f"nequip {version('nequip')}"}

    def predict(data: dict[str, Any]) -> torch.Tensor:
        return model(dict(data))["total_energy"].squeeze(1) / data["num_atoms"]

    return Learner(
        model.train(), lambda part: (_batch(part, elements), tensor(part.energy, torch.float64)), predict, facts
    )


def _batch(sample: Sample, elements: np.ndarray) -> dict[str, Any]:
    return {
        "pos": tensor(sample.positions, torch.float64),
        "cell": tensor(sample.lattice, torch.float64),
        "atom_types": tensor(np.searchsorted(elements, sample.numbers), torch.int64),
        "edge_index": tensor(np.stack([sample.centre, sample.neighbour_in_sample]), torch.int64),
        "edge_cell_shift": tensor(sample.image, torch.float64),
        "batch": tensor(sample.crystal, torch.int64),
        "num_atoms": tensor(sample.atom_counts, torch.int64),
    }
