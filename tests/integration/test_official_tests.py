"""Official tests end to end: each benchmark has its own ids and MAE, and tables and report show them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crystrata.cli.completed_runs import leaderboard as contribute
from crystrata.cli.train import main
from crystrata.datasets.materials import Materials
from crystrata.datasets.splits import PARTS, Split
from crystrata.datasets.splits.official import SPLITS_FILE
from crystrata.datasets.splits.published import SUITE, SUITE_GROUPS
from crystrata.jarvis_properties import NINE, PROPERTIES, get_property, properties
from crystrata.reports.leaderboard import file_name, official_figures, official_predictions
from crystrata.runs.directory import MANIFEST, PREDICTIONS, REPORT, RESULTS, SPLITS, TABLE_MD
from crystrata.sources.table import CrystalTable

EPS = ("epsx", "epsy", "epsz")
TESTED = {name: 5 + number for number, group in enumerate(SUITE_GROUPS) for name in group}
"""Benchmark -> crystals of its made official test."""


@pytest.fixture(scope="module")
def made(demo: CrystalTable) -> CrystalTable:
    """A fifth of the demo crystals passed off as others, a third of their official ehull labels unknown."""
    labels = demo.labels.iloc[::5].copy()
    labels.loc[labels.index[::3], "ehull"] = np.nan
    return CrystalTable(
        "made", "f" * 64, labels, lambda: (one for row, one in enumerate(demo.crystals()) if not row % 5)
    )


@pytest.fixture(scope="module")
def official_ids(made: CrystalTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Official splits of the suite; a crystal that one group tests is trained on by others."""
    rows = []
    for number, group in enumerate(SUITE_GROUPS):
        order = np.random.default_rng(number).permutation(made.labels.index).tolist()
        cut = TESTED[group[0]]
        parts = {"test": order[:cut], "val": order[cut : cut + 20], "train": order[cut + 20 :]}
        rows += [(name, id, part) for name in group for part in PARTS for id in parts[part]]
    path = tmp_path_factory.mktemp("ids") / "splits.parquet"
    pd.DataFrame(rows, columns=["benchmark", "jid", "split"]).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def train_made(
    made: CrystalTable, official_ids: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Trains on the made crystals by a published protocol, one epoch of e3nn lite; returns the run directory."""

    def trained(*flags: object) -> Path:
        models = tmp_path_factory.mktemp("models")
        where = ["--data-dir", data_dir, "--models-dir", models, "--device", "cpu", "--splits-file", official_ids]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("crystrata.workflows.sources.open_source", lambda *_: made)
            patch.setattr("crystrata.workflows.evaluate.png_of", lambda figure: b"no figure")
            assert main(["--level", "lite", "--epochs", "1", "--batch-size", "16", *map(str, (*flags, *where))]) == 0
        (run,) = models.glob("*/run_*")
        return run

    return trained


def content(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


def contribution(run: Path, folder: Path) -> dict[str, pd.DataFrame]:
    """Write the contribution of a run; return benchmark -> its file, read as the leaderboard reads it."""
    who = ["--team", "Us", "--email", "us@example.org", "--url", "https://example.org"]
    assert contribute([str(run), *who, "--output", str(folder)]) == 0
    benchmarks = content(run, RESULTS)["official_tests"]
    assert {path.name for path in folder.glob("*.zip")} == set(map(file_name, benchmarks))
    return {name: pd.read_csv(folder / file_name(name)) for name in benchmarks}


def test_a_union_run_answers_every_official_test(train_made: Callable[..., Path], official_ids: Path) -> None:
    run = train_made("--split", "union", "--properties", ",".join(PROPERTIES), "--max-samples", 1000)
    figures, published = content(run, RESULTS)["official_tests"], pd.read_parquet(official_ids)
    assert list(figures) == list(SUITE)
    told = pd.read_csv(run / PREDICTIONS).set_index("id")
    page, report = (run / TABLE_MD).read_text(), (run / REPORT).read_text()
    trained = {*content(run, SPLITS)["train"], *content(run, SPLITS)["val"]}
    for benchmark, figure in figures.items():
        record = get_property(figure["property"])
        ids = published[(published.benchmark == benchmark) & (published.split == "test")].jid
        assert not trained & set(ids)
        assert figure["ids"] == len(ids) == TESTED[benchmark]
        rows = told.loc[ids].dropna(subset=f"label {record.column}")
        assert figure["n"] == len(rows) > 0
        error = (rows[f"label {record.column}"] - rows[f"predicted {record.column}"]).abs().mean()
        assert np.isclose(figure["mae"], error, rtol=1e-4) == (benchmark not in EPS)  # those have a component each
        assert f"| {benchmark} | {record.name} |" in page
        assert f"<td>{benchmark}</td>" in report
    assert len({figures[name]["mae"] for name in EPS}) > 1
    assert figures["ehull"]["property"] == "ehull_official"
    assert figures["ehull"]["n"] < figures["ehull"]["ids"]
    assert (figures["ehull"]["cgcnn"], figures["ehull"]["alignn"]) == (0.059, 0.076)
    assert content(run, MANIFEST)["all_properties"] is True
    for benchmark, told in contribution(run, run.parent / "contribution").items():
        ids = published[(published.benchmark == benchmark) & (published.split == "test")].jid
        assert sorted(told["id"]) == sorted(ids)
        assert told["prediction"].notna().all()


def test_the_official_ehull_alone(train_made: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = train_made("--split", "official:ehull", "--properties", "ehull_official", "--max-samples", 1000)
    results = content(run, RESULTS)
    assert list(results["tasks"]) == ["ehull_official"]
    figure = results["official_tests"]["ehull"]
    assert figure["n"] < figure["ids"] == 6  # one of the tested crystals has no such label
    assert "Official tests" in capsys.readouterr().out
    assert content(run, MANIFEST)["all_properties"] is False


def test_a_benchmark_without_a_property_of_the_run_has_no_figure(train_made: Callable[..., Path]) -> None:
    run = train_made("--split", "official:mbj_bandgap", "--properties", "spillage", "--max-samples", 1000)
    assert content(run, RESULTS)["official_tests"] == {}


def test_a_run_by_another_protocol_has_no_official_figures(lite_run: Path) -> None:
    assert content(lite_run, RESULTS)["official_tests"] == {}
    assert "Official tests" not in (lite_run / TABLE_MD).read_text() + (lite_run / REPORT).read_text()
    assert list(content(lite_run, RESULTS)["tasks"]) == list(NINE)


def test_a_component_is_the_heads_own_where_it_tells_one() -> None:
    split = Split(np.array([0]), np.array([1]), np.array([2, 4, 5]), "union", 0, {"epsy": np.array([2, 5])})
    labels = pd.DataFrame({"epsy": [9.0, 9.0, 2.0, 9.0, 9.0, 4.0]})
    details = {"dielectric yy": np.array([2.5, 7.0, np.nan])}  # no frame is known of the last crystal
    tasks = properties(["spillage", "dielectric"])
    materials = Materials(tuple("abcdef"), tuple("abcdef"), table=labels)
    predicted = {task.name: np.full(3, 3.0) for task in tasks}
    answers = official_predictions(split, materials, tasks, predicted, details)
    assert answers.to_numpy().tolist() == [["epsy", "c", 2.0, 2.5], ["epsy", "f", 4.0, 3.0]]
    figures = official_figures(answers, tasks, materials, split.train)
    assert list(figures) == ["epsy"]
    assert figures["epsy"]["median_mae"] == pytest.approx((7.0 + 5.0) / 2)
    assert figures["epsy"]["mae"] == pytest.approx((0.5 + 1.0) / 2)
    assert (figures["epsy"]["property"], figures["epsy"]["ids"], figures["epsy"]["n"]) == ("dielectric", 2, 2)
    assert figures["epsy"]["alignn"] == 20.0


@pytest.mark.slow
def test_jarvis_has_the_whole_official_ehull_test(
    jarvis_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All 5,537 tested crystals of the real file are labelled; 400 others are enough to train on."""
    published = jarvis_file.with_name(SPLITS_FILE)
    if not published.exists():
        pytest.skip(f"{SPLITS_FILE} does not lie beside the data file")
    ids = pd.read_parquet(published).query("benchmark == 'ehull'")
    some = {*ids[ids.split == "test"].jid, *ids[ids.split == "val"].jid[:60], *ids[ids.split == "train"].jid[:400]}
    everything = pd.read_parquet(jarvis_file)
    everything[everything["jid"].isin(some)].to_parquet(tmp_path / "some.parquet")
    flags = ["--level", "lite", "--epochs", "1", "--max-samples", "60000", "--properties", "ehull_official"]
    flags += [
        "--split",
        "official:ehull",
        "--splits-file",
        str(published),
        "--data-file",
        str(tmp_path / "some.parquet"),
    ]
    assert main([*flags, "--data-dir", str(tmp_path / "data"), "--models-dir", str(tmp_path / "models")]) == 0
    (run,) = (tmp_path / "models").glob("*/run_*")
    figure = content(run, RESULTS)["official_tests"]["ehull"]
    assert (figure["ids"], figure["n"]) == (5537, 5537)
    assert 0 < figure["mae"] < 1.5  # predicting the mean errs by 1.15
    assert "ehull \\[eV/atom]" not in capsys.readouterr().out
    told = contribution(run, tmp_path / "contribution")["ehull"]
    assert list(told.columns) == ["id", "prediction"]
    assert sorted(told["id"]) == sorted(ids[ids.split == "test"].jid)
    labels = everything.set_index("jid")["ehull"].astype(float)[told["id"]].to_numpy()
    assert abs(np.abs(told["prediction"] - labels).mean() - figure["mae"]) < 5e-5
