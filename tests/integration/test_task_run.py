"""Runs over tasks on compositions, through the one trainer: artifacts, figures in physical units, exact resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from known_tasks import TASKS, label_table
from rich.console import Console
from same_bits import assert_same_bits

from crystrata.compositions.descriptors import KernelMean, Statistics
from crystrata.compositions.keys import composition_keys
from crystrata.errors import TrainingError, UsageError
from crystrata.networks.weights import unpack_network
from crystrata.prediction.predict import Formula, predict, predict_files
from crystrata.prediction.trained_model import load_model
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import (
    ARTIFACTS,
    BEST,
    HISTORY,
    MANIFEST,
    REPORT,
    RESULTS,
    SPLITS,
    TASK_PREDICTIONS,
)
from crystrata.runs.find import saved_config
from crystrata.runs.registry import read_registry
from crystrata.sources.table import CrystalTable
from crystrata.tasks import parse_tasks
from crystrata.training.callbacks import MovingAverage
from crystrata.training.checkpoints import read_checkpoint
from crystrata.training.fit import build
from crystrata.workflows.prepare import prepare
from crystrata.workflows.run import resume, run
from crystrata.workflows.sources import Inputs

QUIET = Console(quiet=True)
LABELS = Inputs(table=label_table())
CONFIG = RunConfig(
    parse_tasks(TASKS),
    composition="mlp",
    latent_stage="tanh",
    descriptor={"kind": "statistics"},
    composition_settings={"hidden_dims": [None, 16, 8]},
    epochs=4,
    batch_size=8,
    accumulate=2,
    lr=1e-2,
    learned_balance=True,
    self_supervised={"masked_features": 0.1},
    val_split=0.2,
    test_split=0.2,
    device="cpu",
)


def content(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is never cut."""
    config = replace(CONFIG, models_dir=str(tmp_path_factory.mktemp("models")))
    return run(config, ["of", "tests"], QUIET, inputs=LABELS)


def test_a_run_leaves_its_artifacts(straight: Path) -> None:
    history, results, manifest = (content(straight, name) for name in (HISTORY, RESULTS, MANIFEST))
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]
    assert set(history[0]["train_loss"]) == {*(task["name"] for task in TASKS), "masked_features"}
    assert set(history[0]["sigma"]) == {task["name"] for task in TASKS}  # losses without labels are not balanced
    assert manifest["status"] == "completed"
    assert manifest["descriptor"]["digest"] == Statistics().digest
    assert {part: len(ids) for part, ids in content(straight, SPLITS).items() if part in ("train", "val", "test")} == (
        manifest["materials"]
    )
    assert results["best_epoch"] == manifest["best_epoch"]
    network, facts = unpack_network(read_checkpoint(straight / BEST))
    assert network.losses == (*(task["name"] for task in TASKS), "masked_features")
    assert facts["trained_tasks"][0] == "energy"


def test_the_weights_of_a_configuration_reach_the_loss() -> None:
    tasks = tuple(replace(task, loss_weight=3.0) if task.name == "energy" else task for task in CONFIG.tasks)
    config = replace(CONFIG, tasks=tasks)
    weights = build(config, prepare(config, QUIET, inputs=LABELS).data, QUIET).balance.weights
    others = {task.name: 1.0 for task in tasks}
    assert weights == others | {"energy": 3.0, "masked_features": 0.1}


def test_a_run_over_tables_leaves_what_every_run_leaves(straight: Path) -> None:
    """Row of the registry, report, tables, calibration, and results by task."""
    assert {name for name in ARTIFACTS if not (straight / name).exists()} == set()
    (entry,) = read_registry(straight.parents[1])
    results = content(straight, RESULTS)
    assert (entry.run_id, entry.status, entry.mode, entry.encoder) == (straight.name, "completed", "tasks", "mlp")
    assert entry.properties == tuple(task["name"] for task in TASKS)
    assert entry.test_mae["energy"] == results["tasks"]["energy"]["test"]["mae"]
    assert (entry.val_score, entry.train_crystals) == (results["val_score"], results["split"]["train"])
    wanted = {task.name: task.kind for task in CONFIG.tasks}
    assert {name: task["kind"] for name, task in results["tasks"].items()} == wanted
    assert load_model(straight, "cpu").calibration is not None
    page = (straight / REPORT).read_text()
    assert all(task["name"] in page for task in TASKS)
    assert "data:image/png;base64,iVBORw0KGgo" in page
    assert "http" not in page


def test_results_are_those_of_the_predictions_in_physical_units(straight: Path) -> None:
    results = content(straight, RESULTS)["tasks"]
    table = pd.read_parquet(straight / TASK_PREDICTIONS / "energy.parquet").dropna()
    assert results["energy"]["test"]["mae"] == pytest.approx(float((table["pred"] - table["true"]).abs().mean()), 1e-5)
    labels = label_table()
    wanted = dict(zip(composition_keys(labels["composition"]), labels["energy"], strict=True))
    assert table["true"].tolist() == pytest.approx([wanted[key] for key in table["key"]])
    classes = pd.read_parquet(straight / TASK_PREDICTIONS / "family.parquet").query("true >= 0")
    accuracy = float((classes["pred"] == classes["true"]).mean())
    assert results["family"]["test"]["accuracy"] == pytest.approx(accuracy)
    curves = pd.read_parquet(straight / TASK_PREDICTIONS / "heat.parquet")
    assert list(curves) == ["key", "composition", "t", "true", "pred"]
    assert set(curves["t"]) <= {0.0, 100.0, 200.0, 300.0}
    moduli = pd.read_parquet(straight / TASK_PREDICTIONS / "moduli.parquet")
    assert list(moduli) == ["key", "composition", "component", "true", "pred"]
    assert results["rebuilt"]["test"]["mse"] > 0


def test_predictions_keep_the_spelling_and_order_of_the_table(straight: Path) -> None:
    labels, energy = label_table(), pd.read_parquet(straight / TASK_PREDICTIONS / "energy.parquet")
    assert energy["key"].tolist() == composition_keys(energy["composition"])
    assert (energy["key"] != energy["composition"]).any()
    rows = labels.index[labels["composition"].isin(energy["composition"])]
    assert energy["composition"].tolist() == labels["composition"][rows].tolist()
    joined = labels.merge(energy, on="composition")
    assert len(joined) == len(energy)
    assert joined["true"].tolist() == pytest.approx(joined["energy"].tolist(), nan_ok=True)


def cut(config: RunConfig, epoch: int, step: int) -> Path:
    """Start a run that fails at a step of an epoch; return its directory."""

    def fail(self: MovingAverage, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if (trainer.current_epoch, index) == (epoch, step):
            raise RuntimeError("the machine fails")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MovingAverage, "on_train_batch_start", fail, raising=False)
        with pytest.raises(RuntimeError, match="the machine fails"):
            run(config, ["of", "tests"], QUIET, inputs=LABELS)
    (path,) = config.family_dir.glob("run_*")
    return path


def test_a_run_that_was_cut_and_continued_equals_one_that_was_not(straight: Path, tmp_path: Path) -> None:
    again = cut(replace(CONFIG, models_dir=str(tmp_path)), 2, 1)
    assert content(again, MANIFEST)["status"] == "failed"
    assert resume(again, saved_config(again), ["again"], QUIET, inputs=LABELS) == again
    assert_same_bits(again, straight)
    records = [[{**record, "seconds": 0} for record in content(path, HISTORY)] for path in (again, straight)]
    assert records[0] == records[1]
    assert content(again, RESULTS)["tasks"] == content(straight, RESULTS)["tasks"]


def test_a_run_is_not_continued_with_other_labels(straight: Path, tmp_path: Path) -> None:
    path = cut(replace(CONFIG, models_dir=str(tmp_path)), 1, 0)
    config = saved_config(path)
    with pytest.raises(UsageError, match="started with other labels"):
        resume(path, config, [], QUIET, inputs=Inputs(table=label_table().assign(energy=1.0)))
    with pytest.raises(UsageError, match="started with other descriptors"):
        resume(path, config, [], QUIET, inputs=replace(LABELS, descriptors=KernelMean()))


def test_a_run_is_not_continued_to_fewer_epochs(tmp_path: Path) -> None:
    path = cut(replace(CONFIG, models_dir=str(tmp_path)), 2, 1)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(UsageError, match="has 2 epochs behind it, and --epochs 1 asks for fewer"):
        resume(path, replace(saved_config(path), epochs=1), [], QUIET, inputs=LABELS)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_a_model_of_compositions_predicts_from_formulas(straight: Path) -> None:
    """Every task has its column, and structures are refused in words."""
    model = load_model(straight, "cpu")
    table = predict(model, [Formula("NaCl"), Formula("Xx2")])
    assert table["error_code"].tolist() == ["", "unknown_species"]
    assert np.isfinite(table["energy"][0])
    assert table["family"][0] in ("oxide", "salt", "other")
    with pytest.raises(UsageError, match="reads formulas and no structures"):
        predict_files(model, ["some.cif"])


def test_an_autoencoder_alone_trains_on_listed_compositions(tmp_path: Path) -> None:
    keys = label_table()["composition"].tolist()
    task = {"name": "rebuilt", "kind": "autoencoder", "predict_idx": keys}
    config = replace(CONFIG, tasks=parse_tasks([task]), self_supervised={}, models_dir=str(tmp_path), epochs=12)
    path = run(config, [], QUIET)
    history = content(path, HISTORY)
    assert history[-1]["val_mae"]["rebuilt"] < 0.8 * history[0]["val_mae"]["rebuilt"]
    assert content(path, RESULTS)["tasks"]["rebuilt"]["val"]["mse"] < 1


def test_a_head_alone_is_trained_from_another_run(straight: Path, tmp_path: Path) -> None:
    """Head-only fine-tuning: the shared part and frozen heads keep their bits, scaling and all."""
    frozen = parse_tasks([{**task, "optimizer": {"freeze_parameters": task["name"] != "energy"}} for task in TASKS])
    config = replace(
        CONFIG,
        tasks=frozen,
        self_supervised={},
        freeze_shared=True,
        start=str(straight),
        epochs=2,
        models_dir=str(tmp_path),
        ema=1e-9,
    )
    tuned = run(config, [], QUIET, inputs=LABELS)
    before, after = (unpack_network(read_checkpoint(path / BEST))[0].state_dict() for path in (straight, tuned))
    moved = {name.rsplit(".layers")[0] for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"heads.energy"}


def test_blocks_have_optimisers_of_their_own() -> None:
    tasks = parse_tasks([{**TASKS[0], "optimizer": {"lr": 5e-3, "scheduler_type": "None"}}, TASKS[1]])
    config = replace(CONFIG, tasks=tasks, learned_balance=False)
    task = build(config, prepare(config, QUIET, inputs=LABELS).data, QUIET)
    shared, head = task.configure_optimizers().param_groups
    assert (shared["lr"], head["lr"], head["schedule"]) == (1e-2, 5e-3, "constant")
    assert set(head["params"]) == set(task.network.get_submodule("heads.energy").parameters())
    assert len(shared["params"]) + len(head["params"]) == len(list(task.network.parameters()))


def test_a_task_without_training_labels_is_named() -> None:
    with pytest.raises(TrainingError, match="energy has no label in the training part"):
        prepare(CONFIG, QUIET, inputs=Inputs(table=label_table().assign(energy=np.nan)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"epochs": 0}, "epochs must be above 0"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"tasks": (), "self_supervised": {}}, "needs a task"),
    ],
)
def test_values_out_of_range_are_told(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        RunConfig.from_dict({**CONFIG.as_dict(), **change})


def test_configurations_survive_json() -> None:
    assert RunConfig.from_dict(json.loads(json.dumps(CONFIG.as_dict()))).digest() == CONFIG.digest()
    with pytest.raises(UsageError, match="unknown key 'epoch'"):
        RunConfig.from_dict({**CONFIG.as_dict(), "epoch": 3})


def test_crystals_join_in_where_a_composition_has_one(
    demo: CrystalTable, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crystrata.sources.opening.open_demo", lambda: demo)
    table = demo.labels.drop_duplicates("formula").rename(columns={"formula": "composition"}).iloc[:60]
    table = pd.concat([table, table.iloc[:1].assign(composition="Xe9Kr7")])  # nobody has its crystal
    config = replace(
        CONFIG,
        tasks=parse_tasks([{"name": "energy", "kind": "regression", "data_column": "formation_energy_peratom"}]),
        self_supervised={"contrastive": 0.1, "cross_reconstruction": 0.1},
        structure="cgcnn",
        structure_settings={"channels": 8, "layers": 1},
        source="demo",
        data_dir=str(data_dir),
        models_dir=str(tmp_path),
        epochs=2,
    )
    structures = prepare(config, QUIET, inputs=Inputs(table=table)).data.dataset.structures
    assert structures is not None
    assert (structures.row < 0).sum() == 1
    path = run(config, [], QUIET, inputs=Inputs(table=table))
    history = content(path, HISTORY)
    assert set(history[-1]["train_loss"]) == {"energy", "contrastive", "cross_reconstruction"}
    assert set(history[-1]["val_mae"]) == {"energy"}
    assert all(np.isfinite(list(record["train_loss"].values())).all() for record in history)
    assert content(path, MANIFEST)["algorithm"] == "composition"


def test_a_start_that_learned_what_is_tested_is_refused(straight: Path, tmp_path: Path) -> None:
    start = replace(CONFIG, models_dir=str(tmp_path), start=str(straight), epochs=1)
    same = run(start, [], QUIET, inputs=LABELS)
    assert content(same, RESULTS)["start"]["tested_and_trained_on"] == 0
    with pytest.raises(UsageError, match=r"\d+ materials of the test part of this split \(rare first\)"):
        run(replace(start, split_seed=5), [], QUIET, inputs=LABELS)
    assert list(start.family_dir.glob("run_*")) == [same]  # a refused call leaves nothing behind


def test_a_start_of_another_task_is_counted(straight: Path, tmp_path: Path) -> None:
    """Labels of a new task were not learned before: what the start saw of the same materials is in the results."""
    table = label_table()
    table = table.assign(other=table["energy"].fillna(0.5) ** 2)
    other = parse_tasks([{"name": "other", "kind": "regression", "data_column": "other"}])
    config = replace(
        CONFIG, tasks=other, self_supervised={}, models_dir=str(tmp_path), start=str(straight), epochs=1, split_seed=5
    )
    path = run(config, [], QUIET, inputs=Inputs(table=table))
    tested, trained = content(path, SPLITS)["test"], content(straight, SPLITS)["train"]
    told = content(path, RESULTS)["start"]
    assert told["tested_and_trained_on"] == len(set(tested).intersection(trained)) > 0
    with pytest.raises(UsageError, match="were trained on"):
        run(replace(config, strict_start=True), [], QUIET, inputs=Inputs(table=table))
