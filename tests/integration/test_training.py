"""Training from the command line to the run directory: every artifact, what it says, and how a run fails."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from crystrata.cli.train import main
from crystrata.datasets.data_module import BatchDataModule
from crystrata.datasets.dataset import CrystalPropertyDataset
from crystrata.datasets.splits import Split
from crystrata.elements import SYMBOLS
from crystrata.jarvis_properties import GROUPS, NINE, get_property, properties, property_tasks
from crystrata.networks.config import NetworkConfig
from crystrata.networks.network import Network
from crystrata.prediction.inference import evaluate_graphs
from crystrata.prediction.trained_model import load_model
from crystrata.runs.config import RunConfig, resolve_config
from crystrata.runs.directory import (
    ARTIFACTS,
    BEST,
    CHECKPOINT,
    CONFIG,
    HISTORY,
    MANIFEST,
    OUTLIERS,
    PREDICTIONS,
    REPORT,
    RESULTS,
    SPLITS,
    TABLE_CSV,
    TABLE_MD,
)
from crystrata.sources.table import CrystalTable
from crystrata.training.module import OptimizerSettings, TrainingModule

Launch = Callable[..., int]
Train = Callable[..., Path]
CORE = list(GROUPS["core4"])


@pytest.fixture(params=["lite_run", "cgcnn_run"])
def run(request: pytest.FixtureRequest) -> Path:
    """A run of either algorithm."""
    return request.getfixturevalue(request.param)


def content(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


def weights(run: Path, name: str = BEST) -> dict[str, Any]:
    return torch.load(run / name, map_location="cpu", weights_only=True)


def only_run(models: Path) -> Path:
    (run,) = models.glob("*/run_*")
    return run


def test_every_artifact_is_there(run: Path) -> None:
    assert {name for name in ARTIFACTS if not (run / name).exists()} == set()
    assert not list(run.glob("*.part"))
    assert not list(run.glob(".*.part"))
    assert list((run / "logs").rglob("metrics.csv"))
    assert list((run / "logs").rglob("events.out.tfevents.*"))


def test_the_manifest_of_a_completed_run(run: Path, demo: CrystalTable) -> None:
    manifest, config = content(run, MANIFEST), RunConfig.from_dict(content(run, CONFIG))
    e3nn = config.algorithm == "e3nn"
    assert manifest["status"] == "completed"
    assert manifest["algorithm"] == ("e3nn" if e3nn else "cgcnn")
    assert manifest["mode"] == ("lite" if e3nn else "smoke")
    assert manifest["all_properties"] is e3nn
    assert manifest["properties"] == (list(NINE) if e3nn else CORE)
    assert manifest["seed"] == 42
    assert manifest["command"][:3] == ["run_phase2.py", *(["--level", "lite"] if e3nn else ["--algorithm", "cgcnn"])]
    assert manifest["config_digest"] == config.digest()
    assert manifest["started"] <= manifest["ended"]
    assert {"python", "crystrata", "torch", "lightning", "e3nn"} <= set(manifest["versions"])
    assert manifest["versions"]["torch"] == str(torch.__version__)
    assert manifest["source"]["name"] == "demo"
    assert manifest["source"]["demo"] is True
    assert manifest["source"]["digest"] == demo.digest
    assert manifest["split"]["digest"] == content(run, SPLITS)["digest"]
    assert sum(manifest["materials"].values()) == config.max_samples
    assert set(manifest["labels"]) == {task.name for task in config.trained}
    assert manifest["best_epoch"] == content(run, RESULTS)["best_epoch"]
    assert 0 < manifest["hours"] <= manifest["wall_hours"]
    assert run.parent.name == ("multitask_lite_e3nn" if e3nn else "multitask_cgcnn")


def test_the_manifest_names_the_commit(lite_run: Path, root: Path) -> None:
    inside = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True)
    git = content(lite_run, MANIFEST)["git"]
    if inside.returncode:
        assert git is None
    else:
        assert len(git["commit"]) == len(inside.stdout.strip()) == 40
        assert git["clean"] in (True, False)


def test_parts_are_disjoint_and_groups_whole(run: Path, demo: CrystalTable) -> None:
    splits = content(run, SPLITS)
    parts = [splits[name] for name in ("train", "val", "test")]
    everyone = [id for part in parts for id in part]
    assert len(everyone) == len(set(everyone)) == content(run, CONFIG)["max_samples"]
    formulas = [set(demo.labels.loc[part, "formula"]) for part in parts]
    assert not formulas[0] & formulas[1]
    assert not formulas[0] & formulas[2]
    assert not formulas[1] & formulas[2]


def test_history_has_one_record_for_each_epoch(run: Path) -> None:
    history, config = content(run, HISTORY), RunConfig.from_dict(content(run, CONFIG))
    assert [record["epoch"] for record in history] == [1, 2]
    steps = -(-len(content(run, SPLITS)["train"]) // config.batch_size)
    assert [record["step"] for record in history] == [steps, 2 * steps]
    for record in history:
        assert (
            set(record["train_loss"])
            == set(record["val_mae"])
            == set(record["sigma"])
            == {task.name for task in config.trained}
        )
        assert all(np.isfinite(list(record["train_loss"].values())))
        assert record["lr"] > 0
        assert record["seconds"] > 0
    best = min(history, key=lambda record: record["val_score"])
    assert (best["epoch"], best["val_score"]) == tuple(
        content(run, RESULTS)[key] for key in ("best_epoch", "val_score")
    )


def test_results_are_those_of_the_saved_weights_on_the_saved_ids(run: Path, demo: CrystalTable, data_dir: Path) -> None:
    """Recomputed from files alone: weights, ids, and the labels of the source."""
    model, results, splits = load_model(run / BEST), content(run, RESULTS), content(run, SPLITS)
    dataset = CrystalPropertyDataset(demo, data_dir / "stores", CORE)
    position = {id: row for row, id in enumerate(dataset.ids)}
    for part in ("val", "test"):
        rows = np.array([position[id] for id in splits[part]])
        predicted = evaluate_graphs(model.network, dataset.graphs, rows).values
        for name in CORE:
            truth = demo.labels.loc[splits[part], list(get_property(name).columns)].mean(axis=1).to_numpy()
            train = demo.labels.loc[splits["train"], list(get_property(name).columns)].mean(axis=1).to_numpy()
            error = predicted[name] - truth
            found = results["tasks"][name][part]
            assert found["n"] == len(rows) == results["split"][part]
            assert found["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
            assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
            assert found["median_mae"] == pytest.approx(np.abs(truth - np.median(train)).mean(), rel=1e-5)
            assert found["mad"] == pytest.approx(np.abs(truth - train.mean()).mean(), rel=1e-5)


def test_the_validation_score_is_the_mean_of_mae_over_mad(run: Path, demo: CrystalTable) -> None:
    record, train = content(run, HISTORY)[-1], content(run, SPLITS)["train"]
    outliers, ratios = pd.read_csv(run / OUTLIERS), []
    for name, mae in record["val_mae"].items():
        masked = outliers.query("property == @name and action == 'masked'")["key"]
        known = demo.labels.loc[train, list(get_property(name).columns)].mean(axis=1).drop(masked)
        ratios.append(mae / (known - known.mean()).abs().mean())
    assert record["val_score"] == pytest.approx(np.mean(ratios), rel=1e-4)


def test_the_written_predictions_are_those_of_the_results(run: Path) -> None:
    text = (run / PREDICTIONS).read_text()
    table = pd.read_csv(io.StringIO(text), comment="#")
    assert table["id"].tolist() == content(run, SPLITS)["test"]
    for name, parts in content(run, RESULTS)["tasks"].items():
        title = get_property(name).column
        errors = (table[f"predicted {title}"] - table[f"label {title}"]).abs().dropna()
        assert len(errors) == parts["test"]["n"]
        assert errors.mean() == pytest.approx(parts["test"]["mae"], rel=1e-4, abs=1e-6)


def test_everything_says_that_it_is_of_the_demo(run: Path) -> None:
    for name in (TABLE_CSV, TABLE_MD, REPORT, PREDICTIONS):
        assert "DEMO: labels are semi-empirical" in (run / name).read_text(), name
    assert content(run, RESULTS)["demo"] is True
    assert content(run, MANIFEST)["source"]["demo"] is True
    assert weights(run)["facts"]["source"]["demo"] is True


def test_the_tables_have_all_properties(run: Path) -> None:
    names = content(run, MANIFEST)["properties"]
    assert pd.read_csv(run / TABLE_CSV, comment="#")["property"].tolist() == names
    page = (run / TABLE_MD).read_text()
    assert all(f"| {name} |" in page for name in names)


def test_the_report_is_self_contained(lite_run: Path) -> None:
    page = (lite_run / REPORT).read_text()
    assert page.count("data:image/png;base64,iVBORw0KGgo") == 2  # parity and learning curves, real PNGs
    assert "http" not in page
    assert all(name in page for name in NINE)


def test_the_outlier_check_is_written(run: Path) -> None:
    table = pd.read_csv(run / OUTLIERS)
    assert {"key", "split", "property", "value", "score", "reason", "action"} <= set(table.columns)
    everyone = {id for part in ("train", "val", "test") for id in content(run, SPLITS)[part]}
    assert set(table["key"]) <= everyone


def test_weights_are_tensors_and_plain_values(run: Path) -> None:
    best, checkpoint = weights(run, BEST), weights(run, CHECKPOINT)  # `weights_only=True` accepts nothing else
    assert {"network", "state", "facts"} <= set(best)
    assert all(isinstance(tensor, torch.Tensor) for tensor in best["state"].values())
    assert checkpoint["epoch"] == 1  # counted from 0
    assert checkpoint["optimizer_states"][0]["state"]
    elements = best["facts"]["elements"]
    assert 10 < len(elements) <= 103
    assert best["facts"]["split_digest"] == content(run, SPLITS)["digest"]


def test_the_saved_weights_are_the_moving_average(run: Path) -> None:
    """Best was the last epoch here: then `best.pt` holds the average of the checkpoint, not its weights."""
    assert content(run, RESULTS)["best_epoch"] == 2
    best, checkpoint = weights(run), weights(run, CHECKPOINT)
    average = next(state["average"] for state in checkpoint["callbacks"].values() if "average" in state)
    last = {name.removeprefix("network."): w for name, w in checkpoint["state_dict"].items() if "network." in name}
    assert set(average) <= set(best["state"]) == set(last)
    assert all(torch.equal(best["state"][name], tensor) for name, tensor in average.items())
    moved = [name for name, tensor in average.items() if not torch.equal(tensor, last[name])]
    assert len(moved) == len(average)


def test_sigmas_are_trained(run: Path) -> None:
    first, last = (content(run, HISTORY)[epoch]["sigma"] for epoch in (0, -1))
    assert all(abs(sigma - 1) > 1e-6 for sigma in last.values())
    assert len(set(last.values())) == len(last)  # each its own
    assert first != last
    balance = {
        name.split(".")[-1]: float(value.exp())
        for name, value in weights(run, CHECKPOINT)["state_dict"].items()
        if name.startswith("balance.")
    }
    assert balance == pytest.approx(last)


def test_the_energy_above_hull_follows_from_the_formation_energy(lite_run: Path) -> None:
    """It has no head; label and prediction differ from those of the formation energy by the same hull."""
    assert "ehull" not in {task["name"] for task in weights(lite_run)["network"]["tasks"]}
    table = pd.read_csv(lite_run / PREDICTIONS, comment="#")
    hull = [
        table[f"{kind} formation_energy [eV/atom]"] - table[f"{kind} ehull [eV/atom]"]
        for kind in ("label", "predicted")
    ]
    np.testing.assert_allclose(hull[0], hull[1], atol=1e-5)
    parts = content(lite_run, RESULTS)["tasks"]
    assert parts["ehull"]["test"]["mae"] == pytest.approx(parts["formation_energy"]["test"]["mae"])


def test_the_loss_falls(train: Train, tmp_path: Path) -> None:
    run = train(tmp_path, "--level", "lite", "--epochs", 6, "--properties", "formation_energy,bulk_modulus")
    history = content(run, HISTORY)
    assert history[-1]["val_score"] < 0.9 * history[0]["val_score"]
    for name in ("formation_energy", "bulk_modulus"):
        assert history[-1]["train_loss"][name] < history[0]["train_loss"][name]
    test = content(run, RESULTS)["tasks"]["formation_energy"]["test"]
    assert test["mae"] < test["median_mae"]


def test_a_specialist_trains_one_property(launch: Launch, tmp_path: Path) -> None:
    flags = ("--level", "lite", "--epochs", 1, "--max-samples", 80, "--properties", "dielectric", "--run-id", "mine")
    assert launch(tmp_path, *flags) == 0
    run = tmp_path / "multitask_lite_e3nn" / "run_mine"
    assert list(content(run, RESULTS)["tasks"]) == ["dielectric"]
    assert launch(tmp_path, *flags) == 2  # the name is taken


def test_accumulated_micro_batches_give_the_gradient_of_the_whole_step(demo: CrystalTable, data_dir: Path) -> None:
    dataset = CrystalPropertyDataset(demo, data_dir / "stores", [*CORE, "piezoelectric"])
    dataset.hide("piezoelectric", np.arange(len(dataset)) % 3 == 0)  # label counts differ between micro-batches
    split = Split(*(np.arange(16 * part, 16 * part + 14) for part in range(3)), "of this test", 0)
    dataset.train_on(split.train)
    tasks, found = property_tasks([*CORE, "piezoelectric"], dict.fromkeys(("band_gap", "piezoelectric"), "scalar")), []
    for size, accumulate in ((14, 1), (4, 4)):  # 4 + 4 + 4 + 2
        torch.manual_seed(0)
        network = Network(NetworkConfig(tasks, "cgcnn", {"channels": 16, "layers": 1}))
        network.fit_scaling(dataset.training_targets(), fractions=dataset.fractions(split.train))
        settings = OptimizerSettings(1e-3, clip=1e9)
        spread = dict.fromkeys(network.task_names, 1.0)
        task = TrainingModule(network, settings, spread, dataset.ids, Console(quiet=True))
        data = BatchDataModule(dataset, split, batch_size=size, accumulate=accumulate)
        found.append(gradient_of_one_step(task, data))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    assert float(found[0].abs().max()) > 1e-3


class Gradient(L.Callback):
    """Keeps the gradient that reaches the optimizer."""

    found: torch.Tensor

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        parameters = [parameter for parameter in pl_module.parameters() if parameter.grad is not None]
        self.found = torch.cat([parameter.grad.flatten().clone() for parameter in parameters])


@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
@pytest.mark.filterwarnings("ignore:.*number of training batches:UserWarning")
def gradient_of_one_step(task: TrainingModule, data: BatchDataModule) -> torch.Tensor:
    gradient = Gradient()
    trainer = L.Trainer(
        accelerator="cpu", max_steps=1, callbacks=[gradient], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    return gradient.found


def without_label(demo: CrystalTable, column: str) -> CrystalTable:
    """The demo crystals under their own digest, with one label unknown everywhere."""
    return replace(demo, labels=demo.labels.assign(**{column: np.nan}))


def test_a_property_without_labels_stops_before_training(
    demo: CrystalTable,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("crystrata.sources.opening.open_demo", lambda: without_label(demo, "bulk_modulus_kv"))
    flags = ["--level", "lite", "--source", "demo", "--data-dir", str(data_dir), "--models-dir", str(tmp_path)]
    assert main(flags) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "bulk_modulus has no label in the train" in said
    assert not list(tmp_path.rglob("run_*"))  # a refused call leaves nothing behind


def test_labels_that_are_all_equal_do_not_crash(
    demo: CrystalTable,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing can be learned from one number: either a message says so, or the run ends with finite figures."""
    table = replace(demo, labels=demo.labels.assign(optb88vdw_bandgap=0.0))
    monkeypatch.setattr("crystrata.sources.opening.open_demo", lambda: table)
    flags = ["--level", "lite", "--epochs", "1", "--max-samples", "80", "--source", "demo"]
    code = main([*flags, "--data-dir", str(data_dir), "--models-dir", str(tmp_path)])
    said = capsys.readouterr().err
    assert code in (0, 1, 2)
    assert code == 0 or "band_gap" in said
    if code == 0:
        assert np.isfinite(content(only_run(tmp_path), RESULTS)["val_score"])


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_from_the_start(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("crystrata.files.os.fsync", no_space)
    assert launch(tmp_path, "--level", "lite") == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: cannot write ")
    assert "No space left on device" in said
    assert "Free some space" in said
    assert [path for path in only_run(tmp_path).rglob("*") if path.is_file() and path.stat().st_size] == []


def test_a_disk_that_fills_during_training_leaves_the_last_checkpoint(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second checkpoint finds no space: the first one stands, untouched, and the run goes on from it later."""
    flags = ("--algorithm", "cgcnn", "--level", "smoke", "--epochs", 3, "--max-samples", 80)
    write, written = os.fsync, list[str]()

    def fsync(handle: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{handle}")).name
        if name.startswith(f".{CHECKPOINT}"):
            written.append(digest(only_run(tmp_path) / CHECKPOINT) if written else "")
            if len(written) == 2:
                no_space()
        write(handle)

    with monkeypatch.context() as patch:
        patch.setattr("crystrata.files.os.fsync", fsync)
        assert launch(tmp_path, *flags) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert f"{CHECKPOINT}: No space left on device" in shown.err
    run = only_run(tmp_path)
    assert f"to continue: crystrata resume {run}\n" in shown.out
    assert digest(run / CHECKPOINT) == written[1]
    assert weights(run, CHECKPOINT)["epoch"] == 0
    assert not list(run.glob(".*.part"))
    manifest = content(run, MANIFEST)
    assert manifest["status"] == "failed"
    assert "No space left" in manifest["error"]
    assert launch(tmp_path, *flags, "--resume") == 0
    assert [record["epoch"] for record in content(run, HISTORY)] == [1, 2, 3]
    assert content(run, MANIFEST)["status"] == "completed"


def test_a_write_that_breaks_off_inside_a_checkpoint(
    lite_run: Path, launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system itself refuses the bytes beyond a limit, as a full disk does, in the middle of `torch.save`."""
    resource = pytest.importorskip("resource")
    limits, size = resource.getrlimit(resource.RLIMIT_FSIZE), (lite_run / CHECKPOINT).stat().st_size
    assert (lite_run / BEST).stat().st_size < size // 2  # the weights fit, the checkpoint does not
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        code = launch(tmp_path, "--level", "lite", "--all-properties", "--epochs", 1, "--batch-size", 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err
    run = only_run(tmp_path)
    assert code == 1
    assert said.count("\n") == 1
    assert said.startswith(f"error: cannot write {run / CHECKPOINT}: File too large")
    assert weights(run, BEST)["facts"]["best_epoch"] == 1
    assert not (run / CHECKPOINT).exists()
    assert not list(run.glob(".*.part"))


def test_a_log_that_cannot_be_written_is_a_storage_error_too(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lightning.pytorch.loggers.CSVLogger.save", no_space)
    assert launch(tmp_path, "--level", "lite", "--epochs", 1, "--max-samples", 80) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "No space left on device" in said
    assert content(only_run(tmp_path), MANIFEST)["status"] == "failed"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="a folder that this user may not write into is needed"
)
def test_a_folder_that_cannot_be_written(launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    assert launch(tmp_path / "models", "--level", "lite") == 1
    assert "Permission denied" in capsys.readouterr().err


def test_a_models_folder_that_is_a_file(launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").touch()
    assert launch(tmp_path / "models", "--level", "lite") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: cannot write ")
    assert said.count("\n") == 1


def test_a_loss_that_is_never_finite_is_named(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def not_finite(network: Network, *_: object, **__: object) -> None:
        for parameter in network.parameters():
            torch.nn.init.constant_(parameter, float("nan"))

    monkeypatch.setattr("crystrata.training.fit.Network.fit_scaling", not_finite)
    assert launch(tmp_path, "--level", "lite", "--epochs", 1, "--max-samples", 80) == 1
    said = capsys.readouterr().err
    assert "finite" in said
    assert "--lr" in said
    assert content(only_run(tmp_path), MANIFEST)["status"] == "failed"


def record_of(row: Any, labels: list[str]) -> dict[str, Any]:
    """A row of the compact JARVIS table as the record that the official file has."""
    atoms = {
        "lattice_mat": np.asarray(row.lattice).reshape(3, 3).tolist(),
        "elements": [SYMBOLS[number - 1] for number in row.atomic_numbers],
        "coords": np.asarray(row.frac_coords).reshape(-1, 3).tolist(),
        "cartesian": False,
    }
    values = {name: getattr(row, name) for name in labels}
    return {"jid": row.jid, "atoms": atoms, **{name: "na" if pd.isna(x) else x for name, x in values.items()}}


def test_training_on_an_excerpt_of_the_real_file(
    jarvis_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [column for record in properties(NINE) for column in record.columns]
    table = pd.read_parquet(jarvis_file)
    table = table[(table["natoms"] <= 8) & table["bulk_modulus_kv"].notna()]
    table = table.iloc[np.linspace(0, len(table) - 1, 300).astype(int)]
    (tmp_path / "excerpt.json").write_text(json.dumps([record_of(row, labels) for row in table.itertuples()]))
    monkeypatch.setattr("crystrata.workflows.evaluate.png_of", lambda figure: b"no figure")
    flags = ["--level", "smoke", "--preset", "small", "--epochs", "2", "--data-file", tmp_path / "excerpt.json"]
    where = ["--data-dir", tmp_path / "data", "--models-dir", tmp_path / "models", "--device", "cpu"]
    assert main([*map(str, flags), *map(str, where)]) == 0
    run = only_run(tmp_path / "models")
    manifest, results = content(run, MANIFEST), content(run, RESULTS)
    assert (manifest["source"]["name"], manifest["source"]["demo"]) == ("excerpt.json", False)
    assert sum(manifest["materials"].values()) == 300
    assert manifest["source"]["sha256"] == digest(tmp_path / "excerpt.json")
    assert "DEMO" not in (run / TABLE_MD).read_text() + (run / PREDICTIONS).read_text()
    energy = results["tasks"]["formation_energy"]["test"]
    assert energy["mae"] < energy["median_mae"]


@pytest.mark.slow
def test_training_on_the_complete_real_file(jarvis_file: Path, tmp_path: Path) -> None:
    flags = ["--level", "smoke", "--all-properties", "--max-samples", "400", "--epochs", "1"]
    where = ["--data-file", str(jarvis_file), "--data-dir", str(tmp_path / "data"), "--models-dir", str(tmp_path / "m")]
    assert main([*flags, *where, "--device", "cpu"]) == 0
    run = only_run(tmp_path / "m")
    assert {name for name in ARTIFACTS if not (run / name).exists()} == set()
    manifest = content(run, MANIFEST)
    assert manifest["materials"] == {"train": 320, "val": 40, "test": 40}
    assert manifest["source"]["rows"] > 50_000
    assert list(content(run, RESULTS)["tasks"]) == list(NINE)


def test_the_configuration_of_the_network_is_that_of_the_run(lite_run: Path) -> None:
    model, config = load_model(lite_run), resolve_config("e3nn", "lite", properties=GROUPS["all9"])
    assert model.network.config.structure_settings == config.structure_settings
    assert model.network.tasks == config.trained
    assert model.properties == config.properties
    assert model.network.config.graph == config.graph


@pytest.mark.parametrize("in_parts", [False, True])
def test_as_many_checkpoints_and_best_epochs_are_kept_as_asked(
    in_parts: bool, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_parts:
        monkeypatch.setattr("crystrata.training.parts.PART_BYTES", 50_000)
    flags = ("--algorithm", "cgcnn", "--level", "smoke", "--max-samples", 80, "--batch-size", 8)
    assert launch(tmp_path, *flags, "--epochs", 4, "--keep-last-k", 2, "--top-k", 3) == 0
    run = only_run(tmp_path)
    assert sorted(file.name for file in run.glob("checkpoint*.pt")) == ["checkpoint.1.pt", CHECKPOINT]
    scores = {record["epoch"]: record["val_score"] for record in json.loads((run / HISTORY).read_text())}
    best = sorted(scores, key=lambda epoch: scores[epoch])[:3]
    kept = {f"epoch_{epoch:04d}.pt" for epoch in best}
    assert {file.name for file in (run / "top").glob("*.pt")} == kept
    assert {file.name.partition(".pt")[0] + ".pt" for file in (run / "top").iterdir()} == kept
    assert any(file.suffix == ".2" for file in (run / "top").iterdir()) == in_parts
    assert len({file.name.split(".")[2] for file in run.glob("checkpoint.pt.*")}) == 2 * in_parts
    for epoch in best:
        assert load_model(run / "top" / f"epoch_{epoch:04d}.pt", "cpu").facts["val_score"] == scores[epoch]
    weights_of = [
        load_model(file, "cpu").network.state_dict() for file in (run, run / "top" / f"epoch_{best[0]:04d}.pt")
    ]
    assert all(torch.equal(weights_of[0][name], weights_of[1][name]) for name in weights_of[0])


def test_an_estimate_writes_no_run(launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--algorithm", "cgcnn", "--level", "smoke", "--max-samples", 80, "--epochs", 200)
    assert launch(tmp_path, *flags, "--estimate") == 0
    said = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line[:1].isalpha()}
    assert said["step"][3:] == ["1", "in", "an", "epoch"]
    assert 0 < float(said["training"][1]) < 1
    assert float(said["peak"][2]) > 0.1
    assert not list(tmp_path.rglob("run_*"))


def test_a_time_budget_fits_the_epochs(launch: Launch, tmp_path: Path) -> None:
    flags = ("--algorithm", "cgcnn", "--level", "smoke", "--max-samples", 80, "--epochs", 3, "--time-budget")
    assert launch(tmp_path / "tight", *flags, 1e-9) == 0
    assert launch(tmp_path / "ample", *flags, 1) == 0
    for name, epochs in (("tight", 1), ("ample", 3)):
        run = only_run(tmp_path / name)
        assert len(content(run, HISTORY)) == content(run, CONFIG)["epochs"] == epochs
    assert launch(tmp_path / "tight", *flags, 1e-9, "--resume") == 0
    assert launch(tmp_path, *flags, -1) == 2
