"""A run is calibrated: what was learned survives file and folder, is refused when damaged, and predicts intervals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crystrata.cli.main import main
from crystrata.errors import ModelError, UsageError
from crystrata.jarvis_properties import get_property, properties
from crystrata.prediction.calibration import Calibration, read_calibration
from crystrata.prediction.predict import DOMAIN_DISTANCE, interval_titles, predict_files, predict_materials
from crystrata.prediction.trained_model import TrainedModel, load_model
from crystrata.runs.directory import BEST, CALIBRATION, REPORT, RESULTS, TABLE_MD
from crystrata.runs.find import CARD
from crystrata.structures.crystal import Crystal
from crystrata.training.checkpoints import read_checkpoint, write_checkpoint
from crystrata.workflows.export import export_model


@pytest.fixture(scope="module")
def model(lite_run: Path) -> TrainedModel:
    """The model of the lite run."""
    return load_model(lite_run, "cpu")


@pytest.fixture
def run(lite_run: Path, tmp_path: Path) -> Path:
    """A copy of the lite run, to be damaged."""
    return Path(shutil.copytree(lite_run, tmp_path / lite_run.name))


@pytest.fixture(scope="module")
def calibration(model: TrainedModel) -> Calibration:
    """Its calibration."""
    assert model.calibration is not None
    return model.calibration


def same(one: Calibration | None, other: Calibration) -> bool:
    """Whether two calibrations are equal bit for bit."""
    assert one is not None
    found, wanted = one.as_tensors(), other.as_tensors()
    return found.keys() == wanted.keys() and all(
        found[name].dtype == wanted[name].dtype and found[name].numpy().tobytes() == wanted[name].numpy().tobytes()
        for name in wanted
    )


def test_results_tables_and_report_tell_the_coverage(lite_run: Path, calibration: Calibration) -> None:
    results = json.loads((lite_run / RESULTS).read_text())
    assert list(results["intervals"]) == list(results["tasks"])
    for name, figures in results["intervals"].items():
        known = results["tasks"][name]["val"]["n"] if results["tasks"][name]["val"] else 0
        assert (known < 20) == (name not in calibration.intervals.properties)
        assert figures["calibration"] == known
        if known >= 20:
            assert figures["levels"]["90"]["half_width"] > 0
            shares = [figures["levels"][level]["all"]["coverage"] for level in ("80", "90", "95")]
            assert shares == sorted(shares)
            groups = figures["levels"]["90"]
            assert groups["all"]["n"] == groups["metals"]["n"] + groups["non-metals"]["n"]
    energy = results["intervals"]["formation_energy"]["levels"]["90"]["all"]
    assert energy["coverage"] > 0.75  # 58 crystals of demo
    row = f"| formation_energy | eV/atom | 90 | {100 * energy['coverage']:.4g} | {energy['width']:.4g} |"
    assert row in (lite_run / TABLE_MD).read_text()
    assert "<h2>Intervals</h2>" in (lite_run / REPORT).read_text()


def test_predictions_carry_intervals_at_any_level(model: TrainedModel, root: Path) -> None:
    files = [root / "examples" / "cifs"]
    tables = {level: predict_files(model, files, interval=level) for level in (0, 50, 90)}
    assert model.calibration is not None
    bounded = properties(model.calibration.intervals.properties)
    assert {"formation_energy", "ehull", "band_gap"} <= {record.name for record in bounded}
    for record in bounded:
        low, high = interval_titles(record)
        assert low not in tables[0]
        columns = tables[90].columns.tolist()
        assert columns[columns.index(record.column) :][1:3] == [low, high]
        for level in (50, 90):
            inside = tables[level][record.column].between(tables[level][low], tables[level][high])
            assert inside.all()
        assert (tables[90][high] - tables[90][low] >= tables[50][high] - tables[50][low]).all()
    assert tables[0].columns.tolist() == [title for title in tables[90] if " low" not in title and " high" not in title]
    for table in tables.values():
        assert np.isfinite(table[DOMAIN_DISTANCE]).all()
    for level in (-1, 100, float("nan")):
        with pytest.raises(UsageError, match="--interval is a percentage"):
            predict_files(model, files, interval=level)


def test_a_model_without_calibration_predicts_without_intervals(run: Path, model: TrainedModel, root: Path) -> None:
    (run / CALIBRATION).unlink()
    older = load_model(run, "cpu")
    assert older.calibration is None
    table = predict_files(older, [root / "examples" / "cifs"])
    told = predict_files(model, [root / "examples" / "cifs"], interval=0).drop(columns=DOMAIN_DISTANCE)
    pd.testing.assert_frame_equal(table.drop(columns="warning"), told.drop(columns="warning"))


def test_strange_crystals_are_named(model: TrainedModel, root: Path) -> None:
    wide = Crystal.create("wide", 6.6 * np.eye(3), [11, 17], [(0, 0, 0), (0.5, 0.5, 0.5)])
    table = predict_materials(model, [wide])
    assert "odd volume" in table["warning"][0]
    everything = predict_files(model, [root / "examples" / "cifs"])
    for row in everything.to_dict("records"):
        warned = "dielectric constant has no meaning" in row["warning"]
        assert warned == (row[get_property("band_gap").column] == 0)
        assert ("unlike the training crystals" in row["warning"]) == (row[DOMAIN_DISTANCE] > 1)


def test_file_and_folder_keep_it(lite_run: Path, calibration: Calibration, tmp_path: Path, root: Path) -> None:
    assert same(read_calibration(lite_run / BEST), calibration)
    folder = export_model(lite_run, tmp_path, "small")
    shared = load_model(folder, "cpu")
    assert same(shared.calibration, calibration)
    assert "| formation_energy | eV/atom | 90 |" in (folder / CARD).read_text()
    tables = [predict_files(load_model(path, "cpu"), [root / "examples" / "cifs"]) for path in (lite_run, folder)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_a_run_without_calibration_is_exported_without(run: Path, tmp_path: Path) -> None:
    (run / CALIBRATION).unlink()
    assert load_model(export_model(run, tmp_path / "out", "small"), "cpu").calibration is None


def test_the_calibration_of_other_weights_is_none(run: Path) -> None:
    """A run that goes on has better weights before it is evaluated again."""
    content = read_checkpoint(run / BEST)
    write_checkpoint(run / BEST, {**content, "facts": {**content["facts"], "best_epoch": 99}})
    assert load_model(run, "cpu").calibration is None


@pytest.mark.parametrize("place", [10, 5000, -1])
def test_a_damaged_file_is_refused(run: Path, place: int) -> None:
    packed = bytearray((run / CALIBRATION).read_bytes())
    packed[place] ^= 1
    (run / CALIBRATION).write_bytes(packed)
    with pytest.raises(ModelError, match=r"calibration\.pt is damaged"):
        load_model(run, "cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.update(format=99), "is not of format 1"),
        (lambda content: content.pop("calibration"), "is not of format 1"),
        (lambda content: content["calibration"].pop("domain.reach"), r"has no 'domain\.reach'"),
        (lambda content: content["calibration"].pop("scores.band_gap"), "do not fit each other"),
        (lambda content: content["calibration"].update(metal=content["calibration"]["metal"][1:]), "do not fit"),
    ],
)
def test_another_form_is_refused(run: Path, change: Callable[[dict], object], words: str) -> None:
    content = read_checkpoint(run / CALIBRATION)
    change(content)
    write_checkpoint(run / CALIBRATION, content)
    with pytest.raises(ModelError, match=words):
        load_model(run, "cpu")


def test_a_run_without_a_gap_has_one_group(train: Callable[..., Path], tmp_path: Path, root: Path) -> None:
    run = train(tmp_path, "--level", "lite", "--properties", "bulk_modulus,spillage", "--max-samples", "90")
    results, model = json.loads((run / RESULTS).read_text()), load_model(run, "cpu")
    assert model.calibration is not None
    assert not model.calibration.intervals.metal.any()
    assert results["intervals"]["bulk_modulus"]["levels"]["80"]["metals"]["n"] == 0
    assert "no meaning" not in "".join(predict_files(model, [root / "examples" / "cifs"])["warning"])


def test_predict_prints_and_takes_the_level(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silicon = str(root / "examples" / "cifs" / "silicon.cif")
    flags = ["predict", "--cif", silicon, "--model", str(run), "--device", "cpu"]
    assert main(flags) == 0
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.split()[:1] == ["formation_energy"]]
    value, low, to, high = (line.split()[place] for place in (1, 3, 4, 5))
    assert to == "to"
    assert float(low) < float(value) < float(high)
    assert "no intervals" not in said
    assert main([*flags, "--interval", "0", "--output", str(tmp_path / "plain.csv")]) == 0
    assert "formation_energy low [eV/atom]" not in pd.read_csv(tmp_path / "plain.csv")
    assert main([*flags, "--output", str(tmp_path / "table.csv")]) == 0
    assert "formation_energy low [eV/atom]" in pd.read_csv(tmp_path / "table.csv")
    assert main([*flags, "--interval", "100"]) == 2
    assert "--interval is a percentage" in capsys.readouterr().err
    (run / CALIBRATION).unlink()
    assert main(flags) == 0
    assert "no intervals" in capsys.readouterr().out
