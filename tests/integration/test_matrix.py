"""The model matrix on the demo crystals: which cells, what is passed over, continued and recorded, and the table."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from crystrata.cli.several_runs import matrix as main
from crystrata.cli.train import EntryPoint, build_parser, config_of
from crystrata.errors import DataError, UsageError
from crystrata.jarvis_properties import NINE
from crystrata.runs.cells import Cell, matrix_cells
from crystrata.runs.config import RunConfig
from crystrata.runs.manifest import read_manifest
from crystrata.runs.registry import read_registry
from crystrata.workflows import matrix as workflow
from crystrata.workflows import run as lifecycle

Run = Callable[..., int]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Graph stores and hulls that the tests of this file share."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def run(stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs two or three tiny cells of the lite tier on the demo crystals; more flags may be given."""

    def call(*flags: str, properties: str = "band_gap,ehull") -> int:
        return main(
            ["--tiers", "lite", "--algorithms", "e3nn", "--properties", properties, "--epochs", "1", "--max-samples",
             "60", "--source", "demo", "--data-dir", str(stores), "--models-dir", str(tmp_path), *flags]
        )  # fmt: skip

    return call


def test_the_matrix_has_thirty_cells_and_the_baseline() -> None:
    cells = matrix_cells()
    e3nn = [cell for cell in cells if cell.config.algorithm == "e3nn"]
    assert len(e3nn) == 30
    assert len(cells) == 33
    assert len({cell.config.digest() for cell in cells}) == 33
    for tier in ("lite", "std", "pro"):
        single = [cell.config for cell in e3nn if cell.tier == tier and cell.config.single_task]
        assert [config.properties for config in single] == [(name,) for name in NINE]
        assert {config.family for config in single} == {f"singletask_{tier}_e3nn/{name}" for name in NINE}
        [multi] = [cell.config for cell in cells if (cell.tier, cell.kind) == (tier, "multi")]
        assert multi.properties == NINE
    ehull = next(cell.config for cell in cells if cell.name == "std single ehull")
    assert [task.name for task in ehull.trained] == ["formation_energy"]


@pytest.mark.parametrize(
    "cell", matrix_cells(max_samples=70, seed=3, source="demo", epochs=4), ids=lambda cell: cell.name
)
def test_the_command_of_a_cell_trains_the_same_model(cell: Cell) -> None:
    entry = EntryPoint("train_singletask.py", single_task=True) if cell.config.single_task else EntryPoint()
    flags = build_parser(entry).parse_args(cell.command[2:])
    assert config_of(flags, entry) == cell.config


def test_cells_can_be_chosen() -> None:
    assert [cell.name for cell in matrix_cells(["pro"], ["band_gap", "multi"])] == [
        "pro single band_gap",
        "pro multi",
        "pro cgcnn",
    ]
    assert [cell.name for cell in matrix_cells(["smoke"], ["multi"], ["cgcnn"])] == ["smoke cgcnn"]
    for wrong in (["lit"], None, ["e3n"]), (["lite"], ["gap"], ["e3nn"]), (["lite"], ["band_gap"], ["cgcnn"]), (
        ["lite"], ["ehull_official"], ["e3nn"],
    ):  # fmt: skip
        tiers, properties, algorithms = wrong
        with pytest.raises(UsageError):
            matrix_cells(tiers, properties, algorithms)


def test_a_dry_run_prints_and_writes_nothing(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--dry-run", properties="band_gap,multi") == 0
    printed = capsys.readouterr().out
    assert "train_singletask.py --level lite --property band_gap --epochs 1" in printed
    assert "run_phase2.py --algorithm e3nn --level lite --all-properties --epochs 1" in printed
    assert printed.endswith("2 cells\n")
    assert not list(tmp_path.iterdir())


def test_cells_are_trained_tabled_and_then_passed_over(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    by_property = {entry.properties[0]: entry for entry in read_registry(tmp_path)}
    assert {name: entry.status for name, entry in by_property.items()} == dict.fromkeys(
        ("band_gap", "ehull"), "completed"
    )
    assert "ehull is derived: its single cell is a second training" in (tmp_path / "matrix.md").read_text()
    lines = (tmp_path / "matrix.csv").read_text().splitlines()
    assert lines[0].startswith("# DEMO")
    rows = {row["property"]: row for row in csv.DictReader(lines[1:])}
    assert list(rows) == list(NINE)
    assert float(rows["band_gap"]["lite single"]) == by_property["band_gap"].test_mae["band_gap"]
    assert float(rows["ehull"]["lite single"]) == by_property["ehull"].test_mae["ehull"]
    assert rows["spillage"]["lite single"] == rows["ehull"]["lite multi"] == ""
    for name in ("matrix.md", "matrix.html"):
        text = (tmp_path / name).read_text()
        assert f"{by_property['ehull'].test_mae['ehull']:.4g}" in text
        assert "DEMO" in text
        assert "2 of 33 cells" in text

    capsys.readouterr()
    assert run("--only-missing", "--dry-run", properties="band_gap,ehull,multi") == 0
    assert "1 cells" in capsys.readouterr().out
    assert run("--only-missing") == 0
    assert "0 of 2 cells to train" in capsys.readouterr().out
    assert len(read_registry(tmp_path)) == 2
    assert run("--only-missing", "--seed", "7", "--dry-run") == 0  # another seed is another model
    assert "2 cells" in capsys.readouterr().out


def test_a_cell_that_fails_is_recorded_and_stops_no_other(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare = lifecycle.prepare
    broken = {"band_gap": DataError("the labels are gone"), "bulk_modulus": ZeroDivisionError("a defect")}

    def fail_for_some(config: RunConfig, console: Console, **settings: Any) -> object:
        if config.properties[0] in broken:
            raise broken[config.properties[0]]
        return prepare(config, console, **settings)

    monkeypatch.setattr(lifecycle, "prepare", fail_for_some)
    assert run(properties="band_gap,bulk_modulus,spillage") == 1
    assert [(entry.properties[0], entry.status) for entry in read_registry(tmp_path)] == [("spillage", "completed")]
    table = (tmp_path / "matrix.md").read_text()
    assert "Failed: lite single band_gap: the labels are gone" in table
    assert "Failed: lite single bulk_modulus: ZeroDivisionError: a defect" in table

    capsys.readouterr()
    assert run("--only-missing", "--dry-run", properties="band_gap,bulk_modulus,spillage") == 0
    assert "2 cells" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:Experiment logs directory:UserWarning")  # the epoch log of a continued run
def test_an_interrupted_cell_continues_in_its_own_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lifecycle, "evaluate_run", interrupt)
    assert run() == 130  # the whole matrix stops
    monkeypatch.undo()
    [entry] = read_registry(tmp_path)
    assert (entry.properties, entry.status) == (("band_gap",), "interrupted")

    assert run("--only-missing", properties="band_gap") == 0
    assert "continuing" in capsys.readouterr().out
    runs = list((tmp_path / entry.family).glob("run_*"))
    assert [path.name for path in runs] == [entry.run_id]
    assert read_manifest(runs[0])["status"] == "completed"
    assert [entry.status for entry in read_registry(tmp_path)] == ["completed"]


def test_no_cell_starts_when_the_hours_are_used(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = []
    monkeypatch.setattr(workflow, "_train", lambda cell, *_: trained.append(cell.name))
    assert run("--max-hours", "1e-12") == 0
    assert trained == []
    assert "2 cells are left" in capsys.readouterr().out
    assert run("--max-hours", "1") == 0
    assert trained == ["lite single band_gap", "lite single ehull"]
    assert run("--max-hours", "0") == 2
    assert run("--source", "jarvis", "--data-file", str(tmp_path / "none.json")) == 2
