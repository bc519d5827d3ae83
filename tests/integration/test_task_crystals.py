"""Runs over tasks whose keys are crystals: joined by id, described by formula, learned from the graph alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from crystrata.compositions.descriptors import Statistics
from crystrata.errors import UsageError
from crystrata.networks.network import Network
from crystrata.prediction.trained_model import load_model
from crystrata.runs.config import RunConfig
from crystrata.sources.table import CrystalTable
from crystrata.tasks import parse_tasks
from crystrata.training.fit import build
from crystrata.workflows.prepare import prepare
from crystrata.workflows.run import run
from crystrata.workflows.sources import Inputs

QUIET = Console(quiet=True)
ENERGY = "formation_energy_peratom"
MLP = {"hidden_dims": [None, 8]}


@pytest.fixture
def config(
    demo: CrystalTable, data_dir: Path, tmp_path: Path, cgcnn_run: Path, monkeypatch: pytest.MonkeyPatch
) -> RunConfig:
    """A run on the demo crystals with the graph encoder of a trained run."""
    monkeypatch.setattr("crystrata.sources.opening.open_demo", lambda: demo)
    old = load_model(cgcnn_run, "cpu").network
    assert isinstance(old, Network)
    return RunConfig(
        parse_tasks([{"name": "energy", "kind": "regression", "data_column": ENERGY, "composition_column": "id"}]),
        structure="cgcnn",
        structure_settings=old.config.structure_settings,
        graph=old.graph,
        source="demo",
        data_dir=str(data_dir),
        models_dir=str(tmp_path),
        epochs=12,
        batch_size=16,
        lr=3e-3,
        ema=0.9,
        device="cpu",
    )


@pytest.fixture
def table(demo: CrystalTable) -> pd.DataFrame:
    """All demo crystals, polymorphs of one formula among them, by id."""
    return demo.labels.reset_index()


def test_an_id_is_that_crystal_and_has_its_formula(config: RunConfig, table: pd.DataFrame, demo: CrystalTable) -> None:
    config = replace(config, composition="mlp", composition_settings=MLP, descriptor={"kind": "statistics"})
    data = prepare(config, QUIET, inputs=Inputs(table=table)).data
    dataset, crystals = data.dataset, list(demo.crystals())
    number = dict(zip(demo.labels.index, crystals, strict=True))
    assert dataset.structures is not None
    assert (dataset.structures.row >= 0).all()
    assert dataset.atom_counts.tolist() == [len(number[key].numbers) for key in dataset.ids]
    wanted, _ = Statistics().describe([demo.labels.loc[key, "formula"] for key in dataset.ids])
    np.testing.assert_array_equal(dataset.descriptors, wanted)
    part = {key: name for name in ("train", "val", "test") for key in data.split.as_dict(list(dataset.ids))[name]}
    parts = demo.labels.loc[list(dataset.ids)].assign(part=[part[key] for key in dataset.ids])
    assert demo.labels["formula"].duplicated().any()
    assert (parts.groupby("formula")["part"].nunique() == 1).all()  # polymorphs stay together


def test_elements_of_the_facts_are_those_of_the_crystals(config: RunConfig, table: pd.DataFrame) -> None:
    assert {"Na", "Cl"} <= set(prepare(config, QUIET, inputs=Inputs(table=table)).facts["elements"])


def test_the_crystal_alone_learns_and_tells_polymorphs_apart(config: RunConfig, table: pd.DataFrame) -> None:
    path = run(config, [], QUIET, inputs=Inputs(table=table))
    found = pd.read_parquet(path / "predictions" / "energy.parquet").set_index("key")
    mae = (found["pred"] - found["true"]).abs().mean()
    assert mae < 0.6 * (found["true"] - found["true"].mean()).abs().mean()
    formulas = table.set_index("id")["formula"].loc[found.index]
    assert (found.groupby(formulas.to_numpy())["pred"].nunique() > 1).any()


def test_the_graph_encoder_starts_from_a_trained_one(
    config: RunConfig, table: pd.DataFrame, cgcnn_run: Path, lite_run: Path
) -> None:
    prepared = prepare(config, QUIET, inputs=Inputs(table=table))
    old = load_model(cgcnn_run, "cpu").network
    assert isinstance(old, Network)
    network = build(replace(config, structure_start=str(cgcnn_run)), prepared.data, QUIET).network
    assert network.encoder is not None
    torch.testing.assert_close(network.encoder.state_dict(), old.encoder.state_dict(), rtol=0, atol=0)
    settings = {**old.config.structure_settings, "layers": 1}
    for change, told in (
        ({"structure_start": str(lite_run)}, "has structure e3nn"),
        ({"structure_settings": settings}, "has structure_settings"),
    ):
        other = replace(config, **{"structure_start": str(cgcnn_run), **change})  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=told):
            build(other, prepared.data, QUIET)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"structure": None}, "choose an encoder"),
        ({"self_supervised": {"masked_features": 0.1}}, "choose a composition"),
    ],
)
def test_a_network_that_would_read_nothing_is_refused(
    config: RunConfig, table: pd.DataFrame, change: dict[str, object], words: str
) -> None:
    prepared = prepare(config, QUIET, inputs=Inputs(table=table))
    with pytest.raises(UsageError, match=words):
        build(replace(config, **change), prepared.data, QUIET)  # type: ignore[arg-type]
