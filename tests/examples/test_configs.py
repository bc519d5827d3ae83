"""The example configurations run as their pages print them, with a few epochs each, and do what they say."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch

from crystrata.cli.trainer import main
from crystrata.networks.weights import unpack_single
from crystrata.runs.directory import BEST, CONFIG, HISTORY
from crystrata.training.checkpoints import read_checkpoint

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "examples" / "configs"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the runs of all examples: some start from others."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def fit(models: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Trains what files describe, a few epochs; returns the run."""

    def call(name: str, *arguments: str, epochs: int = 2) -> Path:
        monkeypatch.chdir(ROOT)
        files = [word for file in name.split() for word in ("--config", f"examples/configs/{file}.yaml")]
        flags = [f"--trainer.default_root_dir={models}", f"--trainer.max_epochs={epochs}"]
        assert main(["fit", *files, *flags, *arguments]) == 0
        return max(models.glob("*/run_*"), key=lambda run: run.stat().st_ctime_ns)

    return call


def network_of(run: Path) -> Any:
    return unpack_single(read_checkpoint(run / BEST))[0]


def history(run: Path) -> list[dict[str, Any]]:
    return json.loads((run / HISTORY).read_text())


def config_of(run: Path) -> dict[str, Any]:
    return json.loads((run / CONFIG).read_text())


def same(first: Any, second: Any, part: str) -> bool:
    """Whether a part of two networks has the same weights."""
    one, two = (network.get_submodule(part).state_dict() for network in (first, second))
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def supervised(models: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        flags = [f"--trainer.default_root_dir={models}", "--trainer.max_epochs=6"]
        assert main(["fit", "--config", "examples/configs/supervised.yaml", *flags]) == 0
    return models / "tasks_mlp" / "run_supervised"


def test_the_supervised_run(supervised: Path) -> None:
    losses = [record["val_loss"]["total"] for record in history(supervised)]
    assert losses[-1] < 0.8 * losses[0]
    assert list(supervised.rglob("*.ckpt"))  # of the callback
    assert [task.get("loss_weight", 1.0) for task in config_of(supervised)["tasks"]] == [1.0, 0.5]


def test_heads_only(fit: Callable[..., Path], supervised: Path) -> None:
    run = fit("heads_only_rnn", f"--model.init_args.start={supervised}")
    network, start = network_of(run), network_of(supervised)
    assert same(network, start, "composition_encoder")
    assert same(network, start, "stage")
    assert type(network.head("heat_capacity")).__name__ == "RnnHead"


@pytest.mark.parametrize(
    ("over", "task", "head"),
    [("transformer_head", "heat_capacity", "TransformerHead"), ("vec_head", "spectrum", "VecHead")],
)
def test_full_fine_tuning(fit: Callable[..., Path], supervised: Path, over: str, task: str, head: str) -> None:
    run = fit(f"heads_only_rnn {over}", f"--model.init_args.start={supervised}")
    network = network_of(run)
    assert run.name == f"run_{over}"
    assert type(network.head(task)).__name__ == head
    assert network.head(task).latent_width == 512
    assert not same(network, network_of(supervised), "composition_encoder")
    table = pd.read_parquet(run / "predictions" / f"{task}.parquet")
    assert table.groupby("key").size().unique().tolist() == [{"heat_capacity": 13, "spectrum": 256}[task]]


def test_the_demo_of_the_scaling_law(fit: Callable[..., Path], models: Path) -> None:
    run = fit("demo_scaling_law", "--data.init_args.task_masking_ratios.task_A=0.5", epochs=3)
    config = config_of(run)
    assert [task.get("task_masking_ratio", 1.0) for task in config["tasks"]] == [0.5, 1.0]
    assert config["composition_settings"] == {"hidden_dims": [2, 128, 256], "norm": "layer", "residual": False}
    assert (config["schedule"], config["redraw_masks"]) == ("constant", False)
    splits = json.loads((run / "splits.json").read_text())
    assert [len(splits[part]) for part in ("train", "val", "test")] == [6, 2, 2]
    own = models / "demo_scaling_law"
    assert "val_total_loss" in pd.read_csv(next((own / "csv").rglob("metrics.csv")))
    assert list((own / "tensorboard").rglob("events.*"))


@pytest.fixture(scope="module")
def mlp(models: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        flags = [f"--trainer.default_root_dir={models}", "--trainer.max_epochs=2"]
        assert main(["fit", "--config", "examples/configs/mlp.yaml", *flags]) == 0
    return models / "tasks_mlp" / "run_mlp"


def test_the_mlp(mlp: Path) -> None:
    assert config_of(mlp)["tasks"][0]["loss_weight"] == 0.8
    assert set(history(mlp)[0]["val_loss"]) == {"total", "final", "bond_energy", "heat_capacity", "autoencoder"}


def test_heads_only_by_one_flag(fit: Callable[..., Path], mlp: Path) -> None:
    freeze = "--model.init_args.shared_block_optimizer.freeze_parameters=True"
    run = fit("mlp", "--experiment_name", "mlp_heads", "--model.init_args.start", str(mlp), freeze)
    network, start = network_of(run), network_of(mlp)
    assert same(network, start, "composition_encoder")
    assert not any(same(network, start, f"heads.{name}") for name in ("bond_energy", "heat_capacity", "autoencoder"))


def test_the_surgical_freeze(fit: Callable[..., Path], mlp: Path) -> None:
    run = fit("mlp surgical_freeze", f"--model.init_args.start={mlp}")
    network, start = network_of(run), network_of(mlp)
    changed = {name for name, _ in network.heads.named_children() if not same(network, start, f"heads.{name}")}
    assert same(network, start, "composition_encoder")
    assert changed == {"heat_capacity"}
    assert all(record["sigma"] == {} for record in history(run))  # the balance is not trained


def test_the_transformer(fit: Callable[..., Path]) -> None:
    small = ["--model.init_args.encoder_config.d_model=32", "--model.init_args.encoder_config.num_layers=1"]
    run = fit("transformer", *small)
    assert run.parent.name == "tasks_transformer"
    assert network_of(run).composition_encoder.group == 8


def test_crystals(fit: Callable[..., Path], tmp_path: Path) -> None:
    run = fit("e3nn", f"--data.init_args.data_dir={tmp_path}", "--data.init_args.max_samples=80", epochs=1)
    assert run.parent.name == "multitask_lite_e3nn"
    assert set(json.loads((run / "results.json").read_text())["tasks"]) == {
        "formation_energy", "band_gap", "bulk_modulus", "ehull",
    }  # fmt: skip


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.chdir(ROOT)
    return importlib.import_module("scaling_law")


def test_the_scaling_law(scaling: ModuleType, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "law.png"
    flags = ["--fractions", "1.0", "0.1", "--seeds", "42", "--models-dir", str(models), "--output", str(figure)]
    values = [("trainer.max_epochs", "30"), ("trainer.default_root_dir", str(tmp_path / "runs"))]
    losses = scaling.losses_of(scaling.CONFIG, "bond_energy", (1.0, 0.1), [42], values)
    assert losses[0.1]["bond_energy"] > 2 * losses[1.0]["bond_energy"]
    assert losses[0.1]["bond_class"] < 2 * losses[1.0]["bond_class"]
    assert scaling.main([*flags, "--task", "bond_energi"]) == 2
    assert "did you mean 'bond_energy'" in capsys.readouterr().err
    scaling.figure_of(losses, "bond_energy").savefig(figure)
    assert figure.stat().st_size > 5000


def test_the_tables_are_those_that_the_script_makes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples" / "data")
    tables = importlib.import_module("make_tables")
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    tables.main()
    made = sorted(tmp_path.glob("*.csv"))
    assert len(made) == 4
    for file in made:
        assert file.read_bytes() == (ROOT / "examples" / "data" / file.name).read_bytes()
        assert file.stat().st_size < 50_000


def test_every_command_of_the_page_can_be_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    text = (CONFIGS / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    commands = [shlex.split(line) for line in re.findall(r"^    crystrata-trainer (.*)$", text, re.MULTILINE)]
    named = {word for command in commands for word in command if word.endswith(".yaml")}
    assert {f"examples/configs/{file.name}" for file in CONFIGS.glob("*.yaml")} - named == {
        "examples/configs/scaling_law.yaml"
    }
    for command in commands:
        if "--ckpt_path" not in command:
            assert main([*command, "--print_config"]) == 0
            assert "tasks:" in capsys.readouterr().out
