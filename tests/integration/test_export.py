"""A run that was exported: it is the same model, its folder speaks for itself, and damage of any kind is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from crystrata.cli.main import main
from crystrata.errors import ModelError, UsageError
from crystrata.files import digest_of_json, write_json
from crystrata.prediction.predict import predict_files
from crystrata.prediction.trained_model import load_model
from crystrata.runs.directory import BEST, RESULTS
from crystrata.runs.find import CARD, DEFAULT_MODEL, DESCRIPTION, WEIGHTS, find_model
from crystrata.runs.manifest import read_manifest, update_manifest
from crystrata.workflows.export import export_model


@pytest.fixture(scope="module")
def exported(lite_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported lite run; not to be changed."""
    return export_model(lite_run, tmp_path_factory.mktemp("shared"), "small")


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(exported, tmp_path / "small"))


@pytest.fixture
def run(lite_run: Path, tmp_path: Path) -> Path:
    """A copy of what the export reads of the lite run, to be changed."""
    copy = tmp_path / lite_run.name
    copy.mkdir()
    for name in (BEST, RESULTS, "run_manifest.json"):
        shutil.copy(lite_run / name, copy)
    return copy


def changed(file: Path, change: Callable[[dict[str, Any]], object], *, sealed: bool = False) -> None:
    """Change a JSON file; with its own digest made again where it has one and `sealed` is true."""
    values = json.loads(file.read_text())
    change(values)
    if sealed:
        values.pop("sha256")
        values["sha256"] = digest_of_json(values)
    write_json(file, values)


def flattened(values: dict[str, Any]) -> dict[str, Any]:
    """Return nested values under joined names, tensors as arrays with their type."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": one for inner, one in flattened(value).items()}
        else:
            is_tensor = isinstance(value, torch.Tensor)
            flat[name] = (value.dtype, value.shape, value.numpy().tobytes()) if is_tensor else value
    return flat


def test_the_folder_holds_the_run_and_nothing_else(exported: Path, lite_run: Path) -> None:
    assert sorted(path.name for path in exported.iterdir()) == sorted([CARD, DESCRIPTION, WEIGHTS])
    run, folder = load_model(lite_run, "cpu"), load_model(exported, "cpu")
    assert folder.path == exported / WEIGHTS
    assert not folder.network.training
    assert folder.network.config == run.network.config
    assert flattened(folder.facts) == flattened(run.facts)
    assert "hulls.ehull.counts" in flattened(folder.facts)
    assert flattened(folder.network.state_dict()) == flattened(run.network.state_dict())
    assert flattened(load_model(exported / WEIGHTS, "cpu").facts) == flattened(run.facts)


def test_predictions_are_those_of_the_run_bit_for_bit(exported: Path, lite_run: Path, root: Path) -> None:
    tables = [predict_files(load_model(path, "cpu"), [root / "examples" / "cifs"]) for path in (exported, lite_run)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    numbers = [table.select_dtypes("number").to_numpy() for table in tables]
    assert np.isfinite(numbers[0]).any(axis=0).sum() >= 9
    assert numbers[0].tobytes() == numbers[1].tobytes()


def test_two_exports_of_a_run_are_equal(exported: Path, lite_run: Path, tmp_path: Path) -> None:
    again = export_model(lite_run, tmp_path, "small")
    assert export_model(lite_run, tmp_path, "small") == again  # over itself
    for name in (WEIGHTS, DESCRIPTION, CARD):
        assert (again / name).read_bytes() == (exported / name).read_bytes()


def test_the_card_tells_figures_split_compute_and_what_a_demo_is(exported: Path, lite_run: Path) -> None:
    card, results = (exported / CARD).read_text(), json.loads((lite_run / RESULTS).read_text())
    description = json.loads((exported / DESCRIPTION).read_text())
    assert "DEMO: labels are semi-empirical" in card.split("##")[0]
    assert "DEMO" in description["notice"]
    assert description["score"] == results["score"]
    assert f"| {results['tasks']['formation_energy']['test']['mae']:.4g} |" in card
    assert f"{results['parameters']:,}" in card
    assert f"| {results['hours']:.4g} |" in card
    assert f"| device | {read_manifest(lite_run)['device']} |" in card
    assert results["split"]["protocol"] in card
    assert description["facts"]["split_digest"] in card
    assert str(lite_run.parent) not in card + json.dumps(description)  # no path of this machine


def test_official_tests_take_the_place_of_the_runs_own(run: Path, tmp_path: Path) -> None:
    figures = {"property": "band_gap_mbj", "ids": 1817, "n": 1800, "mae": 0.3125, "cgcnn": 0.41, "alignn": 0.31}
    changed(run / RESULTS, lambda results: results.update(official_tests={"mbj_bandgap": figures}))
    card = (export_model(run, tmp_path / "out", "small") / CARD).read_text()
    assert "| mbj_bandgap | band_gap_mbj | eV | 1817 | 1800 | 0.3125 | 0.41 | 0.31 |" in card
    assert "val MAE" not in card


def test_a_refit_carries_the_figures_of_the_run_that_was_tested(run: Path, lite_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no official tests of the properties"):
        export_model(lite_run, tmp_path, "used", run)
    figures = {"property": "band_gap_mbj", "ids": 1817, "n": 1800, "mae": 0.3125, "cgcnn": 0.41, "alignn": 0.31}
    changed(run / RESULTS, lambda results: results.update(official_tests={"mbj_bandgap": figures}))
    folder = export_model(lite_run, tmp_path, "used", run)
    card, own = (folder / CARD).read_text(), json.loads((lite_run / RESULTS).read_text())
    assert json.loads((folder / DESCRIPTION).read_text())["figures_of"] == run.name
    assert card.index(run.name) < card.index("| mbj_bandgap |") < card.index("held out of its training")
    assert f"| {own['tasks']['formation_energy']['test']['mae']:.4g} |" in card


@pytest.mark.parametrize("place", [0, 8, 5000, -1])
def test_a_changed_byte_of_the_weights_is_found(folder: Path, place: int) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[place] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.safetensors is damaged .*SHA-256.*crystrata export"):
        load_model(folder, "cpu")


def test_weights_that_were_cut_or_are_of_another_model_are_found(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged or of another model"):
        load_model(folder, "cpu")


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values["facts"].update(val_score=0.0),
        lambda values: values["facts"]["elements"].append("Og"),
        lambda values: values["network"]["graph"].update(cutoff=7.0),
        lambda values: values.update(weights_sha256="0" * 64),
        lambda values: values.pop("sha256"),
        lambda values: values.pop("facts"),
    ],
)
def test_an_edited_description_is_found(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    changed(folder / DESCRIPTION, change)
    with pytest.raises(ModelError, match=r"model\.json is damaged: it has changed"):
        load_model(folder, "cpu")


@pytest.mark.parametrize("text", ["", "{", "[]", "no JSON", "\x00\xff"])
def test_a_description_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / DESCRIPTION).write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"model\.json is damaged.*crystrata export"):
        load_model(folder, "cpu")


@pytest.mark.parametrize("number", [0, 1, "3", None])
def test_a_foreign_format_is_refused(folder: Path, number: object) -> None:
    changed(folder / DESCRIPTION, lambda values: values.update(format=number), sealed=True)
    with pytest.raises(ModelError, match=rf"has format {number}, this version reads 3"):
        load_model(folder, "cpu")


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("network"),
        lambda values: values.pop("facts"),
        lambda values: values.pop("weights_sha256"),
        lambda values: values.update(facts=None),
        lambda values: values["network"]["structure_settings"].update(channels=16),
    ],
)
def test_a_description_that_fits_no_weights_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    changed(folder / DESCRIPTION, change, sealed=True)
    with pytest.raises(ModelError, match=r"holds no model of Crystrata|do not fit their configuration"):
        load_model(folder, "cpu")


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=rf"cannot read .*{name}.*crystrata export"):
        load_model(folder, "cpu")


def test_an_export_that_was_killed_is_refused_and_ended_by_another(run: Path, tmp_path: Path) -> None:
    folder = export_model(run, tmp_path / "out")
    assert folder.name == run.name
    for name in (WEIGHTS, CARD):
        (folder / name).unlink()
    with pytest.raises(ModelError, match="cannot read"):
        load_model(folder, "cpu")
    load_model(export_model(run, tmp_path / "out"), "cpu")
    assert (folder / CARD).is_file()


def test_a_folder_of_something_else_is_left_alone(run: Path, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken" / "thesis.tex").touch()
    (tmp_path / "a_file").touch()
    for name in ("taken", "a_file"):
        with pytest.raises(UsageError, match="choose another --name or --output"):
            export_model(run, tmp_path, name)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["thesis.tex"]
    update_manifest(run, started="2020-01-01T00:00:00+00:00")  # another run, though of the same name
    before = (exported / DESCRIPTION).read_bytes()
    with pytest.raises(UsageError, match=f"does not hold run {run.name}"):
        export_model(run, exported.parent, exported.name)
    assert (exported / DESCRIPTION).read_bytes() == before
    assert load_model(export_model(run, tmp_path, "empty"), "cpu")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\\b", ".hidden", "-x", "c:", "a b", "best", "latest"])
def test_a_name_that_is_no_plain_folder_name_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--name must be a plain folder name"):
        export_model(run, tmp_path / "out", name)
    assert not (tmp_path / "out").exists()


def test_a_demo_never_becomes_the_default(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a demo run cannot be it"):
        export_model(run, tmp_path / "out", DEFAULT_MODEL)


def test_only_a_whole_run_is_exported(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is it a run directory"):
        export_model(tmp_path / "nowhere", tmp_path / "out")
    (run / RESULTS).rename(run / "away")
    with pytest.raises(ModelError, match=r"results\.json is missing or damaged"):
        export_model(run, tmp_path / "out")
    (run / "away").rename(run / RESULTS)
    update_manifest(run, status="interrupted")
    with pytest.raises(ModelError, match="interrupted, not completed: finish it with --resume"):
        export_model(run, tmp_path / "out")
    update_manifest(run, status="completed")
    (run / BEST).unlink()
    with pytest.raises(ModelError, match=r"there is no .*best\.pt"):
        export_model(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_verb_exports_and_inference_finds_the_model_by_name(
    lite_run: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(lite_run), "--name", "small"]) == 0
    folder = Path("models") / "pretrained" / "small"
    assert capsys.readouterr().out == f"exported: {folder}\n"
    assert find_model(Path("models"), "small") == folder
    silicon = str(root / "examples" / "cifs" / "silicon.cif")
    assert main(["predict", "--cif", silicon, "--model", "small", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert f"model: {folder / WEIGHTS}" in said
    assert "DEMO" in said
    assert main(["predict", "--cif", silicon]) == 2  # a name of its own is no default
    assert f"the shipped model {DEFAULT_MODEL} is neither" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "gone")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
