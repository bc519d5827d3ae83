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
from crystrata.runs.task_config import TaskRunConfig
from crystrata.workflows.task_preparation import prepare_tasks
from crystrata.workflows.task_run import build_task_training, resume_tasks, run_tasks
from known_tasks import TASKS, label_table
from rich.console import Console
from same_bits import assert_same_bits

from crystrata.compositions.descriptors import KernelMean, Statistics
from crystrata.compositions.keys import composition_keys
from crystrata.errors import ModelError, TrainingError, UsageError
from crystrata.networks.weights import unpack_task_network
from crystrata.prediction.trained_model import load_model
from crystrata.runs.directory import BEST, HISTORY, MANIFEST, RESULTS, SPLITS, TASK_PREDICTIONS
from crystrata.sources.table import CrystalTable
from crystrata.training.averaging import MovingAverage
from crystrata.training.checkpoints import read_checkpoint

QUIET = Console(quiet=True)
NO_LABEL = pytest.warns(UserWarning, match="task 'energy' has no known label")
CONFIG = TaskRunConfig(
    TASKS,
    descriptor={"kind": "statistics"},
    encoder_settings={"hidden_dims": [None, 16, 8]},
    epochs=4,
    batch_size=8,
    accumulate=2,
    lr=1e-2,
    learned_balance=True,
    pretrain={"masked_features": 0.1},
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
    return run_tasks(config, ["of", "tests"], QUIET, table=label_table())


def test_a_run_leaves_its_artifacts(straight: Path) -> None:
    history, results, manifest = (content(straight, name) for name in (HISTORY, RESULTS, MANIFEST))
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]
    assert set(history[0]["train_loss"]) == {*(task["name"] for task in TASKS), "masked_features"}
    assert set(history[0]["sigma"]) == {task["name"] for task in TASKS}  # losses without labels are not balanced
    assert manifest["status"] == "completed"
    assert manifest["descriptor"]["digest"] == Statistics().digest
    assert {part: len(ids) for part, ids in content(straight, SPLITS).items() if part in ("train", "val", "test")} == (
        manifest["compositions"]
    )
    assert results["best_epoch"] == manifest["best_epoch"]
    network, facts = unpack_task_network(read_checkpoint(straight / BEST))
    assert network.tasks == (*(task["name"] for task in TASKS), "masked_features")
    assert facts["tasks"][0]["name"] == "energy"


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
    assert list(curves) == ["key", "t", "true", "pred"]
    assert set(curves["t"]) <= {0.0, 100.0, 200.0, 300.0}
    assert list(pd.read_parquet(straight / TASK_PREDICTIONS / "moduli.parquet")) == ["key", "component", "true", "pred"]
    assert results["rebuilt"]["test"]["mse"] > 0


def cut(config: TaskRunConfig, epoch: int, step: int) -> Path:
    """Start a run that fails at a step of an epoch; return its directory."""

    def fail(self: MovingAverage, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if (trainer.current_epoch, index) == (epoch, step):
            raise RuntimeError("the machine fails")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MovingAverage, "on_train_batch_start", fail, raising=False)
        with pytest.raises(RuntimeError, match="the machine fails"):
            run_tasks(config, ["of", "tests"], QUIET, table=label_table())
    (run,) = config.family_dir.glob("run_*")
    return run


def test_a_run_that_was_cut_and_continued_equals_one_that_was_not(straight: Path, tmp_path: Path) -> None:
    run = cut(replace(CONFIG, models_dir=str(tmp_path)), 2, 1)
    assert content(run, MANIFEST)["status"] == "failed"
    assert resume_tasks(run, ["again"], QUIET, table=label_table()) == run
    assert_same_bits(run, straight)
    records = [[{**record, "seconds": 0} for record in content(path, HISTORY)] for path in (run, straight)]
    assert records[0] == records[1]
    assert content(run, RESULTS)["tasks"] == content(straight, RESULTS)["tasks"]


def test_a_run_is_not_continued_with_other_labels(straight: Path, tmp_path: Path) -> None:
    run = cut(replace(CONFIG, models_dir=str(tmp_path)), 1, 0)
    with pytest.raises(UsageError, match="started with other labels"):
        resume_tasks(run, [], QUIET, table=label_table().assign(energy=1.0))
    with pytest.raises(UsageError, match="started with other descriptors"):
        resume_tasks(run, [], QUIET, table=label_table(), source=KernelMean())


def test_weights_of_compositions_are_refused_where_crystals_are_predicted(straight: Path) -> None:
    with pytest.raises(ModelError, match="composition model"):
        load_model(straight)


def test_an_autoencoder_alone_trains_on_listed_compositions(tmp_path: Path) -> None:
    keys = label_table()["composition"].tolist()
    task = {"name": "rebuilt", "kind": "autoencoder", "predict_idx": keys}
    config = replace(CONFIG, tasks=(task,), pretrain={}, models_dir=str(tmp_path), epochs=12)
    run = run_tasks(config, [], QUIET)
    history = content(run, HISTORY)
    assert history[-1]["val_mae"]["rebuilt"] < 0.8 * history[0]["val_mae"]["rebuilt"]
    assert content(run, RESULTS)["tasks"]["rebuilt"]["val"]["mse"] < 1


def test_a_head_alone_is_trained_from_another_run(straight: Path, tmp_path: Path) -> None:
    """Head-only fine-tuning: the shared part and frozen heads keep their bits, scaling and all."""
    frozen = tuple({**task, "optimizer": {"freeze_parameters": task["name"] != "energy"}} for task in TASKS)
    config = replace(
        CONFIG,
        tasks=frozen,
        pretrain={},
        freeze_shared=True,
        start=str(straight),
        epochs=2,
        models_dir=str(tmp_path),
        ema=1e-9,
    )
    run = run_tasks(config, [], QUIET, table=label_table())
    before, after = (unpack_task_network(read_checkpoint(path / BEST))[0].state_dict() for path in (straight, run))
    moved = {name.rsplit(".layers")[0] for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"heads.energy"}


def test_blocks_have_optimisers_of_their_own() -> None:
    tasks = ({**TASKS[0], "optimizer": {"lr": 5e-3, "scheduler_type": "None"}}, TASKS[1])
    config = replace(CONFIG, tasks=tasks, learned_balance=False)
    task = build_task_training(config, prepare_tasks(config, QUIET, table=label_table()), QUIET)
    shared, head = task.configure_optimizers().param_groups
    assert (shared["lr"], head["lr"], head["schedule"]) == (1e-2, 5e-3, "constant")
    assert set(head["params"]) == set(task.network.get_submodule("heads.energy").parameters())
    assert len(shared["params"]) + len(head["params"]) == len(list(task.network.parameters()))


def test_a_task_without_training_labels_is_named() -> None:
    with pytest.raises(TrainingError, match="'energy' has no label in the training part"), NO_LABEL:
        prepare_tasks(CONFIG, QUIET, table=label_table().assign(energy=np.nan))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"epochs": 0}, "epochs must be positive"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"tasks": (), "pretrain": {}}, "needs a task"),
    ],
)
def test_values_out_of_range_are_told(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        replace(CONFIG, **change)


def test_configurations_survive_json() -> None:
    assert TaskRunConfig.from_dict(json.loads(json.dumps(CONFIG.as_dict()))).digest() == CONFIG.digest()
    with pytest.raises(UsageError, match="configuration key 'epoch'"):
        TaskRunConfig.from_dict({**CONFIG.as_dict(), "epoch": 3})


def test_crystals_join_in_where_a_composition_has_one(
    demo: CrystalTable, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crystrata.sources.opening.open_demo", lambda: demo)
    table = demo.labels.drop_duplicates("formula").rename(columns={"formula": "composition"}).iloc[:60]
    table = pd.concat([table, table.iloc[:1].assign(composition="Xe9Kr7")])  # nobody has its crystal
    config = replace(
        CONFIG,
        tasks=({"name": "energy", "kind": "regression", "data_column": "formation_energy_peratom"},),
        pretrain={"contrastive": 0.1, "cross_reconstruction": 0.1},
        graph_encoder="cgcnn",
        graph_settings={"channels": 8, "layers": 1},
        source="demo",
        data_dir=str(data_dir),
        models_dir=str(tmp_path),
        epochs=2,
    )
    structures = prepare_tasks(config, QUIET, table=table).data.dataset.structures
    assert structures is not None
    assert (structures.row < 0).sum() == 1
    run = run_tasks(config, [], QUIET, table=table)
    history = content(run, HISTORY)
    assert set(history[-1]["train_loss"]) == {"energy", "contrastive", "cross_reconstruction"}
    assert set(history[-1]["val_mae"]) == {"energy"}
    assert all(np.isfinite(list(record["train_loss"].values())).all() for record in history)
    assert content(run, MANIFEST)["algorithm"] == "composition+cgcnn"


def test_a_start_that_saw_what_is_tested_is_told_of(
    straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = replace(CONFIG, models_dir=str(tmp_path), start=str(straight), epochs=1)
    run_tasks(start, [], Console(width=300), table=label_table())
    assert "warning" not in capsys.readouterr().out
    other = run_tasks(replace(start, split_seed=5), [], Console(width=300), table=label_table())
    tested, trained = content(other, SPLITS)["test"], content(straight, SPLITS)["train"]
    seen = len(set(tested).intersection(trained))
    assert seen > 0
    assert f"{seen} of {len(tested)} compositions of the test part were trained on by" in capsys.readouterr().out
