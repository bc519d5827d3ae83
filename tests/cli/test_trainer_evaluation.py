"""`crystrata-trainer validate | test | predict`: the figures of the run again, other tables, no labels at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from known_tasks import label_table

from crystrata.cli.trainer import main
from crystrata.compositions.descriptors import Statistics
from crystrata.compositions.keys import composition_keys
from crystrata.datasets.splits import PARTS
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import BEST, HISTORY, RESULTS, SPLITS, TASK_PREDICTIONS
from crystrata.runs.find import find_run_of
from crystrata.tasks import Task

TASKS = [
    {"name": "energy", "kind": "regression", "data_column": "energy"},
    {"name": "family", "kind": "classification", "data_column": "family", "classes": ["oxide", "salt", "other"]},
    {"name": "moduli", "kind": "vector", "data_column": "moduli"},
    {"name": "heat", "kind": "curve", "data_column": "heat", "t_column": "T"},
    {"name": "trace", "kind": "sequence", "subtype": "vec", "data_column": "heat", "seq_len": 4},
]


def document(folder: Path, models: Path, tasks: list[dict[str, Any]] = TASKS, **data: Any) -> dict[str, Any]:
    model = {"encoder_config": {"type": "mlp", "hidden_dims": [None, 16, 8]}, "task_configs": tasks}
    given = {
        "formula_desc_source": str(folder / "descriptors.csv"),
        "attributes_source": str(folder / "labels.parquet"),
    }
    return {
        "experiment_name": "evaluated",
        "trainer": {"max_epochs": 3, "default_root_dir": str(models), "accelerator": "cpu"},
        "model": {"class_path": "CompositionModel", "init_args": {**model, "enable_autoencoder": True}},
        "data": {"class_path": "CompositionData", "init_args": {**given, "val_split": 0.2, "test_split": 0.2, **data}},
    }


def call(folder: Path, verb: str, values: dict[str, Any], *arguments: str) -> int:
    file = folder / f"{verb}.yaml"
    file.write_text(yaml.safe_dump(values))
    return main([verb, "--config", str(file), *arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with tables and one trained run."""
    folder = tmp_path_factory.mktemp("evaluated")
    labels = label_table()
    labels.to_parquet(folder / "labels.parquet")
    values, _ = Statistics().describe(list(composition_keys(labels["composition"])))
    table = pd.DataFrame(values[:, :12]).add_prefix("x")
    table.insert(0, "composition", labels["composition"])
    table.to_csv(folder / "descriptors.csv", index=False)
    assert call(folder, "fit", document(folder, folder / "models")) == 0
    return folder


@pytest.fixture
def run(folder: Path) -> Path:
    return folder / "models" / "tasks_mlp" / "run_evaluated"


@pytest.mark.parametrize(("verb", "part"), [("validate", "val"), ("test", "test")])
def test_a_part_has_the_figures_of_the_run(
    folder: Path, run: Path, verb: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(folder, verb, document(folder, folder / "models")) == 0
    out = capsys.readouterr().out
    metrics = json.loads((run / f"{part}_metrics.json").read_text())
    wanted = {name: parts[part] for name, parts in json.loads((run / RESULTS).read_text())["tasks"].items()}
    assert metrics == wanted
    assert out.splitlines()[-1] == f"Metrics: {run / f'{part}_metrics.json'}"
    assert f"{wanted['energy']['mae']:.4g}" in out
    assert f"{wanted['family']['accuracy']:.4g}" in out
    before = (run / f"{part}_metrics.json").read_text()
    for named in (run, run / BEST):  # without any file, from what the run was trained with
        assert main([verb, "--ckpt_path", str(named)]) == 0
        assert (run / f"{part}_metrics.json").read_text() == before


def test_predictions_are_those_of_the_run(folder: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(folder, "predict", document(folder, folder / "models")) == 0
    assert f"{run / 'predicted' / 'energy'}.parquet" in capsys.readouterr().out
    for task in TASKS:
        found, wanted = (
            pd.read_parquet(run / name / f"{task['name']}.parquet") for name in ("predicted", TASK_PREDICTIONS)
        )
        pd.testing.assert_frame_equal(found, wanted)
    assert call(folder, "predict", document(folder, folder / "models", predict_idx="all")) == 0
    assert len(pd.read_parquet(run / "predicted" / "energy.parquet")) == len(label_table())


def test_everything_may_be_tested(folder: Path, run: Path) -> None:
    values = document(folder, folder / "models", tasks=TASKS[:2], test_all=True)
    assert call(folder, "test", values) == 0
    metrics = json.loads((run / "test_metrics.json").read_text())
    assert metrics["energy"]["n"] == label_table()["energy"].notna().sum()
    assert metrics["energy"]["median_mae"] is None  # no training part, no baseline
    assert set(metrics) == {"energy", "family", "autoencoder"}


def test_what_was_trained_on_is_no_test_part(folder: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a split of its own, a file is evaluated on that of the run, whatever its seed; else a notice tells."""
    values, told = document(folder, folder / "models"), "materials of this part were trained on"
    wanted = {name: parts["test"] for name, parts in json.loads((run / RESULTS).read_text())["tasks"].items()}
    for arguments in (["--seed_everything=7"], ["--data.init_args.val_split=0.3", "--data.init_args.test_split=0.3"]):
        assert call(folder, "test", values, *arguments) == 0
        assert json.loads((run / "test_metrics.json").read_text()) == wanted
        assert told not in capsys.readouterr().out
    parts = json.loads((run / SPLITS).read_text())
    trained = len(parts["train"])
    assert call(folder, "test", document(folder, folder / "models", test_all=True)) == 0
    everything = sum(len(parts[part]) for part in PARTS)
    assert f"notice: {trained} of {everything} {told}" in capsys.readouterr().out
    other = folder / "other_splits.json"
    other.write_text(json.dumps({**parts, "train": parts["test"], "test": parts["train"]}))
    assert call(folder, "test", document(folder, folder / "models", splits_file=str(other))) == 0
    assert f"notice: {trained} of {trained} {told}" in capsys.readouterr().out


def test_compositions_without_labels(folder: Path, run: Path) -> None:
    """Tasks without a coordinate need no table: all of the table of descriptors is predicted, or what is listed."""
    tasks = [task for task in TASKS if task["name"] != "heat"]
    values = document(folder, folder / "models", tasks=tasks, attributes_source=None)
    assert call(folder, "predict", values) == 0
    found = {task["name"]: pd.read_parquet(run / "predicted" / f"{task['name']}.parquet") for task in tasks}
    n = len(label_table())
    assert {name: len(table) for name, table in found.items()} == {
        "energy": n, "family": n, "moduli": 2 * n, "trace": 4 * n,
    }  # fmt: skip
    assert found["energy"]["true"].isna().all()
    assert np.isfinite(found["trace"]["pred"]).all()
    labelled = pd.read_parquet(run / TASK_PREDICTIONS / "energy.parquet").set_index("key")["pred"]
    again = found["energy"].set_index("key")["pred"]
    assert again[labelled.index].to_numpy() == pytest.approx(labelled.to_numpy(), rel=1e-5)
    values["data"]["init_args"]["predict_idx"] = ["LiO", "OMg"]
    assert call(folder, "predict", values) == 0
    predicted = pd.read_parquet(run / "predicted" / "energy.parquet")
    assert predicted["composition"].tolist() == ["LiO", "OMg"]
    assert predicted["key"].tolist() == composition_keys(["LiO", "OMg"])


def test_what_does_not_fit_is_told(folder: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(verb: str, values: dict[str, Any], *arguments: str) -> str:
        assert call(folder, verb, values, *arguments) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    fine = folder, folder / "models"
    assert "task 'heat' predicts over 'T'" in told("predict", document(*fine, attributes_source=None))
    other = document(*fine, formula_desc_source=None, descriptor={"kind": "statistics"})
    assert "the network reads other descriptors: kind table" in told("test", other)
    assert "'enrgy'; did you mean 'energy'" in told("test", document(*fine, tasks=[{**TASKS[0], "name": "enrgy"}]))
    assert "is a scalar in" in told("test", document(*fine, tasks=[{**TASKS[3], "name": "energy"}]))
    assert "no run of the experiment 'other'" in told("test", document(*fine), "--experiment_name", "other")
    parts = json.loads((run / SPLITS).read_text())
    (folder / "short.json").write_text(json.dumps({**parts, "train": parts["train"] + parts["test"], "test": []}))
    assert "the test part is empty" in told("test", document(*fine, splits_file=str(folder / "short.json")))
    more = pd.concat([label_table(), label_table().head(1).assign(composition="Cs2Te")])
    more.to_parquet(folder / "more.parquet")
    table = pd.read_csv(folder / "descriptors.csv", keep_default_na=False)
    pd.concat([table, table.head(1).assign(composition="Cs2Te")]).to_csv(folder / "more.csv", index=False)
    new = {"attributes_source": str(folder / "more.parquet"), "formula_desc_source": str(folder / "more.csv")}
    assert "evaluate everything with test_all" in told("test", document(*fine, **new))
    assert main(["predict"]) == 2
    assert "needs --config FILE" in capsys.readouterr().err


def test_an_experiment_has_its_own_runs_alone(tmp_path: Path) -> None:
    """A number counts runs of one experiment only as `fit` writes it: from 2 on, without a leading zero."""
    config = RunConfig(
        tasks=(Task("energy", "scalar", columns=("energy",)),),
        composition="mlp",
        mode="tasks",
        models_dir=str(tmp_path),
    )
    for age, name in enumerate(("run_lr", "run_lr_12", "run_lr_01", "run_lr_1", "run_lr_0", "run_lr_low")):
        (config.family_dir / name).mkdir(parents=True)
        (config.family_dir / name / BEST).touch()
        os.utime(config.family_dir / name / BEST, (age, age))
    assert find_run_of(config, "lr", "last", BEST).name == "run_lr_12"
    assert find_run_of(config, "lr_01", "last", BEST).name == "run_lr_01"
    assert find_run_of(config, None, "last", BEST).name == "run_lr_low"


def test_crystals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verbs on a run of crystals that was trained by the same command."""
    values = {
        "experiment_name": "small",
        "trainer": {"max_epochs": 1, "default_root_dir": str(tmp_path / "models"), "accelerator": "cpu"},
        "model": {
            "class_path": "CrystalModel",
            "init_args": {"algorithm": "cgcnn", "level": "smoke", "properties": ["formation_energy", "ehull"]},
        },
        "data": {
            "class_path": "CrystalData",
            "init_args": {"source": "demo", "max_samples": 80, "data_dir": str(tmp_path / "data")},
        },
    }
    assert call(tmp_path, "fit", values) == 0
    assert call(tmp_path, "fit", values, "--ckpt_path=last", "--trainer.max_epochs=2") == 0  # the same run goes on
    (run,) = (tmp_path / "models").rglob("run_small*")
    assert [record["epoch"] for record in json.loads((run / HISTORY).read_text())] == [1, 2]
    capsys.readouterr()
    for verb, part in (("validate", "val"), ("test", "test")):
        assert call(tmp_path, verb, values) == 0
        metrics = json.loads((run / f"{part}_metrics.json").read_text())
        results = json.loads((run / RESULTS).read_text())["tasks"]
        assert metrics == {name: parts[part] for name, parts in results.items()}
    assert call(tmp_path, "predict", values, "--data.init_args.predict_idx=all") == 0
    table = pd.read_parquet(run / "predicted" / "crystals.parquet")
    assert table["part"].value_counts().to_dict() == {"train": 40, "val": 20, "test": 20}
    saved = pd.read_csv(run / "test_predictions.csv", comment="#")
    tested = table[table["part"] == "test"].drop(columns="part")
    assert tested["id"].tolist() == saved["id"].tolist()
    assert list(tested) == list(saved)
    assert np.allclose(tested.iloc[:, 1:], saved.iloc[:, 1:], rtol=1e-4, equal_nan=True)
    assert call(tmp_path, "predict", values, "--data.init_args.predict_idx=tset") == 2
    assert "did you mean 'test'" in capsys.readouterr().err
    assert call(tmp_path, "fit", values, "--model.init_args.encoder_settings.channels=abc") == 2
    err = capsys.readouterr().err
    assert "setting channels of encoder cgcnn must be a whole number, not 'abc'" in err
    assert err.count("\n") == 1
