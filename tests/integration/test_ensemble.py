"""Runs that start from another, and several runs as one model: whose answers count, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from crystrata.cli.completed_runs import ensemble
from crystrata.errors import UsageError
from crystrata.networks.ensemble import Ensemble
from crystrata.networks.network import Network
from crystrata.networks.training_record import TrainingRecord, hashes
from crystrata.prediction.predict import predict_files
from crystrata.prediction.trained_model import load_model
from crystrata.runs.directory import BEST, CONFIG, MANIFEST, PREDICTIONS, RESULTS, SPLITS
from crystrata.runs.manifest import update_manifest
from crystrata.sources.table import CrystalTable
from crystrata.training.checkpoints import read_checkpoint, write_checkpoint
from crystrata.training.starting_weights import read_start, start_from
from crystrata.workflows.ensemble import select
from crystrata.workflows.export import export_model

CIF = Path(__file__).parents[2] / "examples" / "cifs"


def content(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


@pytest.fixture(scope="module")
def polished(train: Callable[..., Path], lite_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of two properties that starts from the lite run."""
    flags = ("--level", "lite", "--properties", "dielectric,band_gap", "--start", lite_run, "--epochs", "1")
    return train(tmp_path_factory.mktemp("polished"), *flags, "--lr", "1e-3")


@pytest.fixture(scope="module")
def joined(lite_run: Path, polished: Path, demo: CrystalTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both as one model."""
    models = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crystrata.sources.opening.open_demo", lambda: demo)
        patch.setattr("crystrata.workflows.evaluate.png_of", lambda figure: b"no figure")
        assert ensemble([str(lite_run), str(polished), "--models-dir", str(models), "--run-id", "both"]) == 0
    return models / "multitask_lite_e3nn" / "run_both"


def record(run: Path) -> TrainingRecord:
    found = load_model(run, "cpu").record
    assert found is not None
    return found


def weights(run: Path) -> Network:
    network = load_model(run, "cpu").network
    assert isinstance(network, Network)
    return network


def test_a_run_starts_from_the_weights_of_another(lite_run: Path) -> None:
    old = weights(lite_run)
    torch.manual_seed(1)
    new = Network(old.only(["dielectric", "band_gap"]).config)
    assert start_from(new, old, str(lite_run)) == ["dielectric", "band_gap"]
    for name, tensor in new.state_dict().items():
        assert torch.equal(tensor, old.state_dict()[name])


def test_a_start_is_refused_where_it_does_not_fit(lite_run: Path, cgcnn_run: Path, joined: Path) -> None:
    network = weights(lite_run)
    with pytest.raises(UsageError, match=r"structure cgcnn.*must have the same"):
        start_from(network, weights(cgcnn_run), str(cgcnn_run))
    trained, _ = read_start(joined)  # of several networks the first
    assert start_from(network, trained, str(joined)) != []


def test_a_start_never_saw_what_is_tested(
    launch: Callable[..., int], lite_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lite run of another seed was trained on crystals that this one holds out."""
    flags = ("--level", "lite", "--properties", "dielectric", "--start", lite_run, "--seed", "7")
    assert launch(tmp_path, *flags) == 2
    assert re.search(r"\d+ materials of the test part of this split \(random\)", capsys.readouterr().err)


def test_a_run_without_a_checkpoint_goes_on_from_its_start(
    launch: Callable[..., int], train: Callable[..., Path], lite_run: Path, tmp_path: Path
) -> None:
    """As if it had been killed before its first checkpoint."""
    flags = ("--level", "lite", "--properties", "dielectric", "--epochs", "1")
    run = train(tmp_path, *flags, "--start", lite_run)
    once = torch.load(run / BEST, weights_only=True)["state"]
    for name in ("checkpoint.pt", BEST, SPLITS):
        (run / name).unlink()
    update_manifest(run, status="interrupted")
    assert launch(tmp_path, *flags, "--resume", run) == 0
    again = torch.load(run / BEST, weights_only=True)["state"]
    assert all(torch.equal(tensor, once[name]) for name, tensor in again.items())
    assert content(run, CONFIG)["start"] == str(lite_run)
    assert set(record(run).ids) >= set(record(lite_run).ids)


def test_an_ensemble_tells_what_its_parts_have_seen(joined: Path, lite_run: Path, polished: Path) -> None:
    assert set(record(joined).ids) == {*record(lite_run).ids, *record(polished).ids}


def test_what_the_start_has_seen_goes_with_the_weights(polished: Path, lite_run: Path) -> None:
    assert record(polished).saw(content(lite_run, SPLITS)["train"]).all()
    own, before = (set(content(run, SPLITS)["train"]) for run in (polished, lite_run))
    assert set(content(polished, SPLITS).get("seen_before", ())) == before - own
    assert set(record(polished).ids) == set(hashes(sorted(own | before)))


def test_the_first_epoch_is_better_than_one_from_scratch(
    train: Callable[..., Path], polished: Path, tmp_path: Path
) -> None:
    flags = ("--level", "lite", "--properties", "dielectric,band_gap", "--epochs", "1", "--lr", "1e-3")
    scratch = train(tmp_path, *flags)
    assert content(polished, "history.json")[0]["val_score"] < content(scratch, "history.json")[0]["val_score"]


def test_the_best_on_validation_answers() -> None:
    truth = np.array([1.0, 2.0, 3.0, np.nan])
    answers = {0: truth + 0.3, 2: truth - 0.1, 5: truth + 1.0}
    assert select(answers, truth) == ([2], pytest.approx(0.1))  # a mean with 0 has the same error: not worth a pass
    assert select({0: truth + 0.3, 2: truth - 0.2}, truth) == ([0, 2], pytest.approx(0.05))
    none, error = select({4: truth, 7: truth}, np.full(4, np.nan))
    assert none == [4]
    assert np.isnan(error)


def test_an_ensemble_is_a_run(joined: Path, lite_run: Path, polished: Path) -> None:
    network = load_model(joined, "cpu").network
    assert isinstance(network, Ensemble)
    members = content(joined, MANIFEST)["members"]
    assert [member["run"] for member in members] == [lite_run.name, polished.name]
    assert {name for member in members for name in member["predicts"]} == set(network.task_names)
    assert content(joined, RESULTS)["hours"] == pytest.approx(sum(member["hours"] for member in members))
    assert content(joined, MANIFEST)["status"] == "completed"


def test_it_is_never_worse_on_validation_than_its_parts(joined: Path, lite_run: Path, polished: Path) -> None:
    maes = [
        {name: one["val"]["mae"] for name, one in content(run, RESULTS)["tasks"].items() if one["val"]}
        for run in (joined, lite_run, polished)
    ]
    for name, mae in maes[0].items():
        assert mae <= min(other[name] for other in maes[1:] if name in other) * (1 + 1e-4)


def test_its_answers_are_those_of_the_chosen_parts(joined: Path, lite_run: Path, polished: Path) -> None:
    members = content(joined, MANIFEST)["members"]
    told = [pd.read_csv(run / PREDICTIONS, comment="#").set_index("id") for run in (joined, lite_run, polished)]
    for name in ("dielectric", "band_gap", "spillage"):
        (column,) = [title for title in told[0] if title.startswith(f"predicted {name}") and f"{name}_" not in title]
        asked = [table for member, table in zip(members, told[1:], strict=True) if name in member["predicts"]]
        mean = sum(table.loc[told[0].index, column] for table in asked) / len(asked)
        np.testing.assert_allclose(told[0][column], mean, rtol=1e-4, atol=1e-5)


def test_it_is_exported_and_predicts(joined: Path, tmp_path: Path) -> None:
    folder = export_model(joined, tmp_path, "both")
    tables = [predict_files(load_model(path, "cpu"), [CIF]) for path in (joined, folder)]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0]["error"].eq("").any()
    assert "several networks" in (folder / "README.md").read_text()


def test_a_run_that_saw_what_is_held_out_is_refused(
    lite_run: Path, polished: Path, demo: CrystalTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cheat = Path(shutil.copytree(polished, tmp_path / "run_cheat"))
    weights_file, tested = read_checkpoint(cheat / BEST), content(cheat, SPLITS)["test"][:1]
    cheated = record(cheat).joined(TrainingRecord.of(tested, tested, {}))
    write_checkpoint(cheat / BEST, {**weights_file, "record": cheated.as_tensors()})
    (models := tmp_path / "models").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crystrata.sources.opening.open_demo", lambda: demo)
        assert ensemble([str(lite_run), str(cheat), "--models-dir", str(models)]) == 2
    assert "was trained on 1 materials that are held out" in capsys.readouterr().err
    assert not list(models.iterdir())


def test_unfinished_and_differing_runs_are_refused(
    lite_run: Path, cgcnn_run: Path, joined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished = Path(shutil.copytree(lite_run, tmp_path / "run_unfinished"))
    update_manifest(unfinished, status="interrupted")
    for other, words in (
        (unfinished, "is interrupted, not completed"),
        (cgcnn_run, "differ in algorithm"),
        (joined, "is an ensemble already"),
    ):
        assert ensemble([str(lite_run), str(other), "--models-dir", str(tmp_path)]) != 0
        assert words in capsys.readouterr().err
    assert (lite_run / BEST).is_file()
