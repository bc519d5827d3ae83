"""Continual learning on generated labels: what replay saves, exact continuation, one split, heads trained alone."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from crystrata.cli.several_runs import continual as main
from crystrata.compositions.keys import composition_keys
from crystrata.datasets.catalogues import catalogue_tasks
from crystrata.datasets.generated_labels import TEMPERATURES, generated_labels
from crystrata.errors import DataError, UsageError
from crystrata.networks.network import Network
from crystrata.networks.weights import unpack_single
from crystrata.runs.continual_config import ContinualConfig, read_continual
from crystrata.runs.directory import BEST, MANIFEST, SPLITS
from crystrata.training.callbacks import MovingAverage
from crystrata.training.checkpoints import read_checkpoint
from crystrata.workflows.continual import (
    FINAL,
    FINETUNE_SUMMARY,
    FORGETTING,
    RECORD,
    RECORDS,
    finetune_heads,
    run_continual,
)

QUIET = Console(quiet=True)
ELEMENTS = ("Li", "Na", "K", "Mg", "Ca", "Al", "Ti", "Fe", "Cu", "Zn", "Sn", "La")
OTHERS = ("O", "S", "Cl", "N", "F")
NAMES = ("ionicity", "block", "melting", "heat")
TRAINING = {
    "descriptor": {"kind": "statistics"},
    "composition_settings": {"hidden_dims": [None, 16, 4]},
    "epochs": 12,
    "batch_size": 32,
    "lr": 1e-2,
    "ema": 0.9,
    "patience": 100,
    "schedule": "constant",
    "autoencoder": True,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """180 compositions with labels of four kinds that follow from them."""
    formulas = [f"{metal}{n}{other}" for n in (1, 2, 3) for metal in ELEMENTS for other in OTHERS]
    columns: dict[str, Any] = {
        "ionicity": generated_labels("generated_ionicity", formulas),
        "block": generated_labels("generated_block", formulas),
        "melting": generated_labels("generated_melting_point", formulas),
        "heat": list(generated_labels("generated_heat_capacity", formulas)),
        "T": [TEMPERATURES] * len(formulas),
    }
    file = tmp_path_factory.mktemp("tables") / "labels.parquet"
    pd.DataFrame({"composition": formulas, **columns}).to_parquet(file)
    return file


@pytest.fixture(scope="module")
def config(table: Path, tmp_path_factory: pytest.TempPathFactory) -> ContinualConfig:
    """The continual learning that the tests vary."""
    files = {"data_files": [str(table)]}
    tasks = (
        {"name": "ionicity", "kind": "regression", "data_column": "ionicity", **files},
        {"name": "block", "kind": "classification", "data_column": "block", "classes": list("spdf"), **files},
        {"name": "melting", "kind": "regression", "data_column": "melting", "transform": "log1p", **files},
        {"name": "heat", "kind": "curve", "data_column": "heat", "t_column": "T", **files, "head": {"kernels": 8}},
    )
    output = str(tmp_path_factory.mktemp("continual") / "whole")
    return ContinualConfig(tasks=tasks, replay=0.2, training=TRAINING, output=output)


@pytest.fixture(scope="module")
def learned(config: ContinualConfig) -> tuple[Path, dict[str, Any]]:
    """Folder and records of a continual learning that was never cut."""
    records = run_continual(config, ["of", "tests"], QUIET)
    return Path(config.output) / "training", records


def network_of(weights: Path) -> Network:
    return unpack_single(read_checkpoint(weights))[0]


def test_continual_learning_leaves_its_steps(learned: tuple[Path, dict[str, Any]]) -> None:
    folder, records = learned
    steps = [f"step{number:02d}_{name}" for number, name in enumerate(NAMES, start=1)]
    assert sorted(path.name for path in folder.glob("step*")) == steps
    for number, step in enumerate(steps, start=1):
        assert {path.name for path in (folder / step).glob("*_pred.parquet")} == {
            f"{name}_pred.parquet" for name in NAMES[:number]
        }
        assert (folder / step / f"{NAMES[number - 1]}.png").stat().st_size > 5000
    assert list(pd.read_parquet(folder / steps[-1] / "heat_pred.parquet")) == [
        "key",
        "composition",
        "t",
        "true",
        "pred",
    ]
    classes = pd.read_parquet(folder / steps[-1] / "block_pred.parquet")
    metrics = json.loads((folder / steps[-1] / "block_metrics.json").read_text())
    assert list(classes) == ["key", "composition", "true", "pred"]
    assert metrics["accuracy"] == pytest.approx((classes["true"] == classes["pred"]).mean())
    assert 0 < metrics["macro_f1"] <= 1
    assert (folder / FORGETTING).stat().st_size > 10_000
    assert list(network_of(folder / FINAL).heads) == [*NAMES, "autoencoder"]
    assert json.loads((folder / RECORDS).read_text())["bwt"] == pytest.approx(records["bwt"])


def test_backward_transfer_is_that_of_the_predictions(learned: tuple[Path, dict[str, Any]]) -> None:
    folder, records = learned

    def r2(step: int) -> float:
        rows = pd.read_parquet(folder / f"step{step:02d}_{NAMES[step - 1]}" / "ionicity_pred.parquet")
        return 1 - ((rows["true"] - rows["pred"]) ** 2).sum() / ((rows["true"] - rows["true"].mean()) ** 2).sum()

    assert records["R"][0]["ionicity"] == pytest.approx(r2(1), abs=1e-5)
    assert records["forgetting"]["ionicity"] == pytest.approx(r2(1) - r2(4), abs=1e-5)
    lost = [records["R"][place][name] - records["R"][-1][name] for place, name in enumerate(NAMES)]
    assert records["bwt"] == pytest.approx(-np.mean(lost))
    assert lost[-1] == 0  # of the task that came last
    assert -np.mean(lost[:-1]) == pytest.approx(records["bwt"] * len(NAMES) / (len(NAMES) - 1))


def test_every_step_has_the_one_split(learned: tuple[Path, dict[str, Any]]) -> None:
    folder, records = learned
    split = json.loads((folder / SPLITS).read_text())
    assert records["split"]["digest"] == split["digest"]
    for run in folder.glob("step*"):
        assert json.loads((run / SPLITS).read_text()) == split
        assert set(pd.read_parquet(run / "ionicity_pred.parquet")["key"]) == set(split["test"])


def test_the_scaling_of_a_head_never_moves(learned: tuple[Path, dict[str, Any]], table: Path) -> None:
    folder, _ = learned
    split = json.loads((folder / SPLITS).read_text())
    labels = pd.read_parquet(table)
    labels.index = pd.Index(composition_keys(labels["composition"]))
    scalings = [
        {
            name: value
            for name, value in network_of(run / BEST).state_dict().items()
            if "head" in name and "scal" in name
        }
        for run in sorted(folder.glob("step*"))
    ]
    descriptors = [network_of(run / BEST).descriptor_mean for run in sorted(folder.glob("step*"))]
    assert float(scalings[0]["heads.ionicity.scaling.location"]) == pytest.approx(
        labels.loc[split["train"], "ionicity"].mean(), rel=1e-5
    )
    assert all(torch.equal(one, descriptors[0]) for one in descriptors)
    for number, scaling in enumerate(scalings):
        assert len(scaling) > 2
        for later in scalings[number:]:
            assert all(torch.equal(value, later[name]) for name, value in scaling.items())


def test_without_replay_more_is_forgotten(
    config: ContinualConfig, learned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, kept = learned
    bare = replace(config, replay=0.0, output=str(tmp_path))
    lost = run_continual(bare, [], QUIET)
    assert lost["after_learning"]["ionicity"] == kept["after_learning"]["ionicity"]  # the first step is the same
    assert lost["bwt"] < kept["bwt"] - 0.1
    before, after = (
        network_of(tmp_path / "training" / step / BEST).head("ionicity").state_dict()
        for step in ("step01_ionicity", "step04_heat")
    )
    assert all(torch.equal(before[name], after[name]) for name in before)  # an idle head is not run and does not move


def test_continual_learning_that_was_cut_goes_on_bit_for_bit(
    config: ContinualConfig, learned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    whole, records = learned
    other = replace(config, output=str(tmp_path))

    def fail(self: MovingAverage, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if len(module.network.heads) == 4 and (trainer.current_epoch, index) == (5, 2):  # in the third step
            raise RuntimeError("the machine fails")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MovingAverage, "on_train_batch_start", fail, raising=False)
        with pytest.raises(RuntimeError, match="the machine fails"):
            run_continual(other, [], QUIET)
    folder = tmp_path / "training"
    assert [(folder / step / RECORD).is_file() for step in ("step02_block", "step03_melting")] == [True, False]
    done = (folder / "step02_block" / BEST).stat().st_mtime_ns
    again = run_continual(other, [], QUIET)
    assert (folder / "step02_block" / BEST).stat().st_mtime_ns == done
    assert "resumed" in json.loads((folder / "step03_melting" / MANIFEST).read_text())
    found, wanted = (network_of(path / FINAL).state_dict() for path in (folder, whole))
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []
    assert again["R"] == records["R"]
    assert again["split"] == records["split"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"replay": 0.3}, "replay 0.2 -> 0.3"),
        ({"training": {**TRAINING, "epochs": 13}}, "training.epochs 12 -> 13"),
        ({"last": ("ionicity",)}, r"last \[\] -> \['ionicity'\]"),
    ],
)
def test_a_changed_plan_is_not_continued(
    config: ContinualConfig, learned: tuple[Path, dict[str, Any]], change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        run_continual(replace(config, **change), [], QUIET)


def test_heads_alone_are_trained_and_every_head_stays(
    config: ContinualConfig, learned: tuple[Path, dict[str, Any]]
) -> None:
    folder, _ = learned
    run = finetune_heads(config, ["melting"], [], QUIET, epochs=3)
    before, after = network_of(folder / FINAL), network_of(run / FINAL)
    summary = json.loads((run / FINETUNE_SUMMARY).read_text())
    assert (summary["trained"], set(summary["heads"])) == (["melting"], set(before.heads))
    assert list(summary["tasks"]) == ["melting"]
    descriptor = torch.randn(7, len(before.descriptor_mean))
    with torch.no_grad():
        assert torch.equal(*(model.composition_latents(descriptor) for model in (before, after)))
    old, new = before.state_dict(), after.state_dict()
    assert old.keys() == new.keys()
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert moved
    assert all(name.startswith("heads.melting.") and "scaling" not in name for name in moved)
    with pytest.raises(UsageError, match="holds a finished fine-tuning"):
        finetune_heads(config, ["melting"], [], QUIET)
    with pytest.raises(UsageError, match="unknown head 'melt'; did you mean 'melting'"):
        finetune_heads(config, ["melt"], [], QUIET)


def test_a_fine_tuning_that_was_cut_goes_on_from_its_own_weights_alone(
    config: ContinualConfig, learned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = shutil.copytree(learned[0], tmp_path / "training")
    other, weights = replace(config, output=str(tmp_path)), folder / "step03_melting" / BEST

    def fail(self: MovingAverage, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("the machine fails")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MovingAverage, "on_train_batch_start", fail, raising=False)
        with pytest.raises(RuntimeError, match="the machine fails"):
            finetune_heads(other, ["melting"], [], QUIET, checkpoint=weights, epochs=2)
    told = f"was started from {re.escape(str(weights))}, not from {re.escape(str(folder / FINAL))}: name"
    with pytest.raises(UsageError, match=told):
        finetune_heads(other, ["melting"], [], QUIET, epochs=2)
    spelled = folder / ".." / "training" / "step03_melting" / BEST
    run = finetune_heads(other, ["melting"], [], QUIET, checkpoint=spelled, epochs=2)
    assert json.loads((run / FINETUNE_SUMMARY).read_text())["checkpoint"] == str(weights)


TOML = """
[design]
anything = 1

[continual]
replay = 12
last = ["b"]

[continual.replay_by_task]
a = 0.1

[continual.training]
epochs = 3

[[continual.tasks]]
name = "a"
kind = "regression"
data_column = "a"
"""


JARVIS_TOML = """
[continual]
max_compositions = 300

[continual.training]
descriptor = {{ kind = "statistics" }}
data_dir = "{data_dir}"
device = "cpu"

[[continual.tasks]]
name = "energy"
kind = "regression"
data_column = "formation_energy_peratom"

[[continual.tasks]]
name = "system"
kind = "classification"
data_column = "crystal_system"
classes = ["triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic"]
"""


def test_a_file_may_hold_tables_of_other_commands(tmp_path: Path) -> None:
    file = tmp_path / "continual.toml"
    file.write_text(TOML)
    config = read_continual(file, epochs=5, output=None)
    assert (config.replay, config.replay_by_task, config.last) == (12, {"a": 0.1}, ("b",))
    assert config.training["epochs"] == 5
    assert ContinualConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[rehersal]", "has no table"),
        ("[continual]\nreply = 1", "did you mean 'replay'"),
        ("[continual]", "name a catalogue"),
        ('[continual]\ncatalogue = "demo"\nreplay = 1.5', "a whole number of samples"),
        ('[continual]\ncatalogue = "demo"\ntraining = 3', "wrong kind"),
        ('[continual]\ncatalogue = "demo"\n[continual.training]\nepoch = 3', "did you mean 'epochs'"),
        ('[continual]\ncatalogue = "demo"\n[continual.training]\nstart = "x"', "decided by the steps"),
        ('[continual]\ncatalogue = "demo"\nlast = "metal"', "last is a list, not 'metal'"),
        ('[continual]\ncatalogue = "demo"\nlast = ["metal", "band_gap", "metal"]', "last names 'metal' twice"),
        ('[continual]\ntasks = "metal"', "tasks is a list, not 'metal'"),
        ("[continual", "cannot be read as TOML"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    text: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "continual.toml"
    file.write_text(text)
    assert main(["--config", str(file), "--output", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1


def test_tasks_without_files_read_the_jarvis_table(
    jarvis_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = tmp_path / "continual.toml", tmp_path / "made"
    file.write_text(JARVIS_TOML.format(data_dir=(tmp_path / "data").as_posix()))
    assert main(["--config", str(file), "--output", str(output), "--data-file", str(jarvis_file), "--epochs", "2"]) == 0
    told = capsys.readouterr().out
    assert "BWT" in told
    assert re.search(r"system +accuracy +0\.\d+", told)
    labels = pd.read_parquet(output / "training" / "compositions.parquet")
    assert (len(labels), list(labels)) == (300, ["composition", "formation_energy_peratom", "crystal_system"])
    again = ["--config", str(file), "--output", str(output), "--epochs", "2"]
    assert main(again) == 0  # the labels are there already
    assert capsys.readouterr().out.count("already finished") == 2
    assert main([*again, "--without-replay"]) == 2
    assert "replay 0.05 -> 0.0" in capsys.readouterr().err
    assert main(["--config", str(file), "--output", str(output), "--checkpoint", "x"]) == 2


@pytest.mark.parametrize("name", ["demo", "full"])
def test_the_examples_can_be_read(name: str, root: Path) -> None:
    config = read_continual(root / "examples" / "continual" / f"{name}.toml")
    tasks = {task["name"] for task in catalogue_tasks(name)}
    assert config.catalogue == name
    assert {*config.last, *config.replay_by_task} <= tasks


def test_the_jarvis_table_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRYSTRATA_JARVIS", raising=False)
    with pytest.raises(DataError, match="name its file by --data-file"):
        run_continual(ContinualConfig(catalogue="demo", output=str(tmp_path)), [], QUIET)


def test_unknown_catalogue(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'demo'"):
        run_continual(ContinualConfig(catalogue="dem", output=str(tmp_path)), [], QUIET)
