"""A small trained network of compositions, for whoever designs with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from crystrata.compositions.element_features import load_element_features
from crystrata.compositions.keys import weights as fractions_of
from crystrata.elements import SYMBOLS
from crystrata.runs.config import RunConfig
from crystrata.sources.demo import open_demo
from crystrata.tasks import parse_tasks
from crystrata.workflows.run import run
from crystrata.workflows.sources import Inputs


def mean_of(feature: str, formulas: list[str]) -> np.ndarray:
    """The mean of an element feature over the atoms of each formula."""
    features = load_element_features()
    return fractions_of(formulas) @ features.values[:, features.names.index(feature)]


def trained_run(models: Path, *, mass: bool = False) -> Path:
    """Train on the demo compounds: mean electronegativity, whether oxygen is in them, and the mean mass if asked."""
    formulas = sorted(set(open_demo().labels["formula"]))
    oxide = np.where(fractions_of(formulas)[:, SYMBOLS.index("O")] > 0, "oxide", "other")
    pull, heavy = mean_of("X", formulas), mean_of("atomic_mass", formulas)
    table = pd.DataFrame({"composition": formulas, "pull": pull, "mass": heavy, "kind": oxide})
    second = {"name": "mass", "kind": "regression", "data_column": "mass", "transform": "log1p"}
    tasks = (
        {"name": "pull", "kind": "regression", "data_column": "pull"},
        *((second,) if mass else ()),
        {"name": "kind", "kind": "classification", "data_column": "kind", "classes": ("oxide", "other")},
    )
    config = RunConfig(
        parse_tasks(tasks),
        composition="mlp",
        composition_settings={"hidden_dims": [None, 32, 16]},
        latent_stage="tanh",
        autoencoder=True,
        epochs=15,
        lr=5e-3,
        models_dir=str(models),
    )
    return run(config, [], Console(quiet=True), inputs=Inputs(table=table))
