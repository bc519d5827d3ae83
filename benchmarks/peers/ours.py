"""Crystrata itself: graphs, collation, training steps and predictions from files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from crystrata.datasets.batch import Batch, Targets
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import collate
from crystrata.graphs.neighbours import build_graphs, search
from crystrata.graphs.store import open_store
from crystrata.jarvis_properties import property_tasks
from crystrata.networks.config import NetworkConfig
from crystrata.networks.network import Network, count_parameters
from crystrata.prediction.predict import predict_files
from crystrata.prediction.trained_model import TrainedModel
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal
from crystrata.training.module import OptimizerSettings, TrainingModule
from peers.sample import Sample
from peers.torch_settings import as_stated
from peers.worker import Case

PROPERTY = "formation_energy"


def _crystals(sample: Sample) -> list[tuple[int, Crystal]]:
    return [
        (row, Crystal.create(str(row), one.lattice[0], one.numbers, one.frac)) for row, one in enumerate(sample.split())
    ]


def graphs(sample: Sample) -> Case:
    """Smooth neighbourhoods with vectors and angle cosines, of a list of crystals."""
    crystals = _crystals(sample)
    built, _ = build_graphs(crystals, GraphSettings())
    facts = {
        "edges per atom": len(built.neighbour) / len(built.numbers),
        "angles per atom": len(built.cosine) / len(built.numbers),
    }
    return Case(lambda: build_graphs(crystals, GraphSettings()) and None, len(crystals), facts)


def radius(sample: Sample, cutoff: float) -> Case:
    """All neighbours within a radius."""
    crystals = [crystal for _, crystal in _crystals(sample)]
    edges = len(search(crystals, 0, 0.0, cutoff)[0].neighbour)
    facts = {"edges per atom": edges / len(sample.numbers)}
    return Case(lambda: search(crystals, 0, 0.0, cutoff) and None, len(crystals), facts)


def collation(sample: Sample, angles: bool, batch: int, distinct: bool = False) -> Case:
    """Batches cut out of a memory-mapped store; `distinct` as in training, one atom for its symmetric copies."""
    crystals = [crystal for _, crystal in _crystals(sample)]
    labels = pd.DataFrame(index=pd.Index([crystal.id for crystal in crystals], name="id"))
    table = CrystalTable("speed", "speed", labels, lambda: iter(crystals))
    arrays = open_store(table, GraphSettings(), Path.cwd() / "stores").arrays
    order = np.random.default_rng(0).permutation(len(crystals))
    parts = [order[start : start + batch] for start in range(0, len(order), batch)]

    def run() -> None:
        for part in parts:
            collate(arrays, part, angles=angles, distinct=distinct)

    return Case(run, len(crystals), {"edges per atom": sample.edges_per_atom, "remark": "store as a memory map"})


def training(
    sample: Sample,
    encoder: str,
    settings: dict[str, Any],
    batch: int,
    compiled: bool = False,
    distinct: bool = False,
) -> Case:
    """Steps on the formation energy alone, through the losses and the gradient of the trainer.

    `distinct` is how the trainer does it: one atom stands for its symmetric copies, with the same loss and gradient.
    """
    as_stated()
    torch.manual_seed(0)
    network = Network(NetworkConfig(property_tasks([PROPERTY]), encoder, settings))
    options = OptimizerSettings(lr=1e-3, learned_balance=False)
    task = TrainingModule(network, options, {PROPERTY: 1.0}, [], Console(stderr=True))
    optimizer = task.configure_optimizers()
    batches = _labelled(sample, batch, distinct)
    facts: dict[str, Any] = {"parameters": count_parameters(network), "edges per atom": sample.edges_per_atom}

    def run() -> None:
        for part in batches:
            task.set_gradient([part])
            optimizer.step()

    if compiled:
        facts |= _compile(network, task, batches)
    return Case(run, len(sample), facts)


def _compile(network: Network, task: TrainingModule, batches: list[Batch]) -> dict[str, Any]:
    """Compile the encoder; return how long it took on all batches and how far the gradients differ."""

    def gradient() -> torch.Tensor:
        task.set_gradient([batches[0]])
        return torch.cat([p.grad.flatten() for p in network.encoder.parameters() if p.grad is not None])

    eager = gradient()
    network.compile_encoder()
    started = time.perf_counter()
    for part in batches:
        task.set_gradient([part])
    seconds = time.perf_counter() - started
    difference = float((gradient() - eager).norm() / eager.norm())
    return {"compile [s]": seconds, "remark": f"compiled: gradient differs by {difference:.0e} of its norm"}


def _labelled(sample: Sample, size: int, distinct: bool) -> list[Batch]:
    arrays, _ = build_graphs(_crystals(sample), GraphSettings())
    result = []
    for start in range(0, len(sample), size):
        rows = np.arange(start, min(start + size, len(sample)))
        energy = torch.from_numpy(sample.energy[rows]).float()
        labels = {PROPERTY: Targets(energy, torch.ones_like(energy, dtype=torch.bool))}
        result.append(Batch(torch.from_numpy(rows), labels, crystals=collate(arrays, rows, distinct=distinct)))
    return result


def predictions(sample: Sample, folder: str) -> Case:
    """Formation energies of CIF files through the table of `predict`; an untrained network of size std."""
    as_stated()
    paths = sorted(Path(folder).glob("*.cif"))
    network = Network(NetworkConfig(property_tasks([PROPERTY]), "e3nn", {"channels": 64, "layers": 3})).eval()
    model = TrainedModel(network, Path("untrained"), {"properties": [PROPERTY]})
    if (predict_files(model, paths)["error_code"] != "").any():
        raise ValueError("a CIF file was refused")
    return Case(lambda: predict_files(model, paths) is None, len(paths), {"edges per atom": sample.edges_per_atom})
