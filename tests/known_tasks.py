"""Compositions with labels of every kind of task, and small networks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from known_crystals import CRYSTALS, SETTINGS

from crystrata.compositions.descriptors import Statistics
from crystrata.compositions.keys import composition_key
from crystrata.datasets.dataset import MaterialDataset
from crystrata.datasets.labels import load_labels
from crystrata.datasets.masks import with_label_widths
from crystrata.datasets.materials import Structures, unite
from crystrata.graphs.neighbours import build_graphs
from crystrata.networks.config import NetworkConfig
from crystrata.networks.network import Network
from crystrata.tasks import parse_tasks

METALS, OTHERS = ("Li", "Na", "K", "Mg", "Ca", "Al", "Fe", "Cu"), ("O", "S", "Cl", "N")

TASKS: tuple[dict[str, Any], ...] = (
    {"name": "energy", "kind": "regression", "data_column": "energy"},
    {"name": "family", "kind": "classification", "data_column": "family", "classes": ["oxide", "salt", "other"],
     "head": {"class_weights": [0.3, 1.0, 2.0]}},
    {"name": "moduli", "kind": "vector", "data_column": "moduli", "transform": "asinh"},
    {"name": "heat", "kind": "curve", "data_column": "heat", "t_column": "T"},
    {"name": "trace", "kind": "sequence", "subtype": "rnn", "hidden": 8, "data_column": "heat", "t_column": "T"},
    {"name": "rebuilt", "kind": "autoencoder"},
)  # fmt: skip


def label_table(n: int = 48) -> pd.DataFrame:
    """Labels that follow from the composition, about a third of them unknown; curves of 0 to 4 points."""
    formulas = [f"{metal}{count}{other}" for count in (1, 2, 3) for metal in METALS for other in OTHERS][:n]
    rows = np.arange(len(formulas))
    x = np.array([METALS.index(name) for count in (1, 2, 3) for name in METALS for _ in OTHERS][:n], dtype=float)
    other = rows % 4
    energy = 0.4 * x - 1.0 * other
    points = rows % 5
    return pd.DataFrame(
        {
            "composition": formulas,
            "energy": np.where(rows % 3 == 0, np.nan, energy),
            "family": [None if row % 4 == 3 else ("oxide", "other", "salt")[other[row] % 3] for row in rows],
            "moduli": [[10 * e + 50, np.nan if row % 2 else e] for row, e in zip(rows, energy, strict=True)],
            "heat": [[e + 0.1 * k for k in range(p)] or None for e, p in zip(energy, points, strict=True)],
            "T": [[100.0 * k for k in range(p)] or None for p in points],
        }
    )


def dataset_of(
    tasks: Sequence[dict[str, Any]] = TASKS, *, train: int = 36, structures: bool = False, **options: Any
) -> MaterialDataset:
    """The labelled compositions; the first rows train. With `structures` every fifth has one of the fixed crystals."""
    parsed, rows = parse_tasks(tasks), np.arange(train)
    materials, labels = unite(load_labels(parsed, table=label_table(), key_of=composition_key))
    known = [with_label_widths(task, labels[task.name], rows) if task.name in labels else task for task in parsed]
    descriptors, _ = Statistics().describe(materials.ids)
    if structures:
        graphs, _ = build_graphs(list(enumerate(CRYSTALS)), SETTINGS)
        row = np.full(len(materials), -1)
        row[::5] = np.arange(len(row[::5])) % len(CRYSTALS)
        materials = replace(materials, structures=Structures(graphs, row))
    return MaterialDataset(materials, known, labels, descriptors=descriptors[:, :12], train=rows, **options)


def network_of(dataset: MaterialDataset, seed: int = 0, **options: Any) -> Network:
    """A small network for a dataset, its weights a function of the seed, scaled on the training rows."""
    torch.manual_seed(seed)
    descriptors = dataset.descriptors
    assert descriptors is not None
    hidden = {"hidden_dims": [descriptors.shape[1], 16, 8]}
    config = NetworkConfig(dataset.tasks, composition="mlp", composition_settings=hidden)
    network = Network(replace(config, **options))
    network.fit_scaling(dataset.training_targets(), descriptors=torch.from_numpy(descriptors[dataset.train]))
    return network
