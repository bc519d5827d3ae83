"""Figures of merit against numbers worked out by hand, and the tables that people and programs read."""

from __future__ import annotations

import csv
import io
import json
from math import isnan, log2, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from crystrata.jarvis_properties import PROPERTIES, PUBLISHED
from crystrata.reports.metrics import PropertyMetrics, competition_score, property_metrics
from crystrata.reports.predictions import write_predictions
from crystrata.reports.tables import DEMO_CAPTION, captions, mae_table, markdown, terminal_table, write_tables
from crystrata.runs.directory import TABLE_CSV, TABLE_MD

TRUTH = np.array([1.0, nan, 2.0, 4.0, 9.0])
PREDICTED = np.array([2.0, 100.0, 2.0, 2.0, 8.0])
TRAIN = np.array([0.0, 2.0, nan, 4.0, 10.0])  # mean 4, median 3, mean absolute deviation 3


def metrics_of(mae: float, n: int = 20) -> dict[str, Any]:
    """Plausible metrics with one mean absolute error; the median baseline is 1."""
    return PropertyMetrics(n, mae, 1.5 * mae, 0.5, 1.1, 1.0, 1 - mae / 1.1, 0, mae).as_dict()


def about(name: str, **parts: Any) -> dict[str, Any]:
    """What results say of a property."""
    task = PROPERTIES[name]
    return {"kind": task.kind, "unit": task.unit, "title": task.title, "benchmark": task.benchmark, **parts}


def results_of(demo: bool = False) -> dict[str, Any]:
    """Results of a run: better than the baseline, worse, and without a test label."""
    return {
        "demo": demo,
        "tasks": {
            "band_gap": about("band_gap", val=metrics_of(0.4), test=metrics_of(0.5)),
            "bulk_modulus": about("bulk_modulus", val=metrics_of(1.9), test=metrics_of(2.0)),
            "piezoelectric": about("piezoelectric", val=metrics_of(1.0), test=None),
        },
    }


def test_metrics_by_hand() -> None:
    found = property_metrics(TRUTH, PREDICTED, TRAIN)
    assert found is not None
    assert found.n == 4
    assert found.mae == pytest.approx((1 + 0 + 2 + 1) / 4)
    assert found.rmse == pytest.approx(((1 + 0 + 4 + 1) / 4) ** 0.5)
    assert found.r2 == pytest.approx(1 - 6 / (9 + 4 + 0 + 25))
    assert found.mad == pytest.approx((3 + 2 + 0 + 5) / 4)
    assert found.median_mae == pytest.approx((2 + 1 + 1 + 6) / 4)
    assert found.skill == pytest.approx(1 - 1 / 3)
    assert (found.n_flagged, found.mae_unflagged) == (0, found.mae)


def test_flagged_labels_count_but_are_told_apart() -> None:
    flagged = np.array([False, True, False, True, True])
    found = property_metrics(TRUTH, PREDICTED, TRAIN, flagged)
    assert found is not None
    assert found.mae == pytest.approx(1.0)  # every known label counts
    assert found.n_flagged == 2  # an unknown one is no flagged one
    assert found.mae_unflagged == pytest.approx(0.5)
    every = property_metrics(TRUTH, PREDICTED, TRAIN, np.ones(5, dtype=bool))
    assert every is not None
    assert isnan(every.mae_unflagged)


def test_perfect_and_useless_predictions() -> None:
    truth = np.array([1.0, 2.0, 6.0])
    perfect = property_metrics(truth, truth, truth)
    mean = property_metrics(truth, np.full(3, 3.0), truth)
    assert perfect is not None
    assert mean is not None
    assert (perfect.mae, perfect.rmse, perfect.r2, perfect.skill) == (0, 0, 1, 1)
    assert mean.mae == mean.mad
    assert mean.r2 == pytest.approx(0)
    assert mean.skill == pytest.approx(0)


def test_without_a_known_label_there_are_no_metrics() -> None:
    assert property_metrics(np.array([nan, nan]), np.zeros(2), TRAIN) is None
    assert property_metrics(np.array([]), np.array([]), TRAIN) is None


def test_equal_labels_have_no_r2() -> None:
    found = property_metrics(np.array([2.0, 2.0]), np.array([1.0, 4.0]), TRAIN)
    assert found is not None
    assert isnan(found.r2)
    assert found.mae == pytest.approx(1.5)


def test_equal_training_labels_have_no_skill() -> None:
    found = property_metrics(np.array([2.0, 3.0]), np.array([2.0, 2.0]), np.array([2.0, 2.0, 2.0]))
    assert found is not None
    assert found.mae == pytest.approx(0.5)
    assert isnan(found.skill)


def test_float32_labels_are_summed_in_double_precision() -> None:
    truth = np.full(1001, 16_777_216.0, dtype=np.float32)  # from here on float32 skips odd numbers
    truth[-1] = 0
    found = property_metrics(truth, truth.astype(float) + 1.0, truth)
    assert found is not None
    assert found.mae == 1.0


def test_the_score_is_the_mean_skill_with_losses_clipped() -> None:
    scored = competition_score([0.5, 1.0, -3.0, 0.1], hours=3.0)
    assert scored["score"] == pytest.approx(100 * 1.6 / 4)
    assert scored["balanced_score"] == pytest.approx(40 - log2(4))
    assert competition_score([0.5], hours=0.0)["balanced_score"] == pytest.approx(50)


def test_the_table_has_a_row_for_each_property() -> None:
    table = mae_table(results_of())
    assert table["property"].tolist() == ["band_gap", "bulk_modulus", "piezoelectric"]
    assert table["unit"].tolist() == ["eV", "GPa", "pC/N"]
    assert table["n test"].tolist() == [20, 20, 0]
    assert table["test MAE"].tolist()[:2] == [0.5, 2.0]
    assert pd.isna(table["test MAE"][2])
    assert table["val MAE"].tolist() == [0.4, 1.9, 1.0]
    assert table["published ALIGNN"].tolist() == [
        PUBLISHED[PROPERTIES[name].benchmark].alignn for name in table["property"]
    ]


def test_tasks_without_published_errors_have_no_columns_of_them(tmp_path: Path) -> None:
    own = {"kind": "scalar", "unit": "GPa", "title": "hardness", "val": metrics_of(1.0), "test": metrics_of(2.0)}
    results = {"demo": False, "tasks": {"hardness": own}}
    write_tables(tmp_path, results)
    shown = io.StringIO()
    Console(file=shown, width=80, color_system=None).print(terminal_table(results))
    for text in (shown.getvalue(), (tmp_path / TABLE_CSV).read_text(), (tmp_path / TABLE_MD).read_text()):
        assert "hardness" in text
        assert "ublished" not in text
        assert "CGCNN" not in text
    results["tasks"]["band_gap"] = about("band_gap", val=metrics_of(0.4), test=metrics_of(0.5))
    assert mae_table(results)["published CGCNN"].isna().tolist() == [True, False]
    assert "published" in captions(results)[0]


def test_markdown_is_a_table_of_four_digits() -> None:
    lines = markdown(mae_table(results_of())).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len(lines) == 2 + 3
    assert {len(row) for row in cells} == {len(cells[0])}
    assert set(cells[1]) == {"---"}
    assert cells[2][:6] == ["band_gap", "eV", "20", "0.4", "0.5", "1.1"]
    assert cells[4][2:5] == ["0", "1", "-"]
    assert "0.3333" in markdown(pd.DataFrame({"x": [1 / 3]}))


@pytest.mark.parametrize("demo", [False, True])
def test_written_tables_say_whether_they_are_of_the_demo(tmp_path: Path, demo: bool) -> None:
    write_tables(tmp_path, results_of(demo))
    text, page = (tmp_path / TABLE_CSV).read_text(), (tmp_path / TABLE_MD).read_text()
    assert text.startswith("#") == demo
    assert (DEMO_CAPTION in text) == (DEMO_CAPTION in page) == demo
    assert (DEMO_CAPTION in captions(results_of(demo))) == demo
    table = pd.read_csv(io.StringIO(text), comment="#")
    pd.testing.assert_frame_equal(table, mae_table(results_of(demo)), check_dtype=False)


def test_the_terminal_table_fits_80_columns_and_colours_by_the_baseline() -> None:
    results = results_of()
    maes = {name: 0.567890 if name == "band_gap" else 12.34567 for name in PROPERTIES}
    results["tasks"] = {name: about(name, val=metrics_of(0.5), test=metrics_of(mae)) for name, mae in maes.items()}
    shown = io.StringIO()
    Console(file=shown, width=80, color_system=None).print(terminal_table(results))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for record in PROPERTIES.values():
        (line,) = [line for line in lines if line.split()[0:1] == [record.name]]
        assert f"{record.column} " in line  # the unit in brackets is text, no markup
    assert "…" not in shown.getvalue()
    coloured = io.StringIO()
    Console(file=coloured, width=80, force_terminal=True, color_system="standard", legacy_windows=False).print(
        terminal_table(results)
    )
    assert coloured.getvalue().count("\x1b[32m") == 1  # green: below the median baseline
    assert coloured.getvalue().count("\x1b[33m") == len(PROPERTIES) - 1


def test_the_terminal_table_keeps_figures_whole_beside_a_long_name() -> None:
    name = "a_property_whose_name_is_longer_than_half_of_a_terminal"
    found = metrics_of(3.3156e-5) | {"mad": 4.4512e-5, "median_mae": 4.2211e-5}
    results = {"demo": False, "tasks": {name: {"kind": "scalar", "unit": "e/bohr3", "val": found, "test": found}}}
    shown = io.StringIO()
    Console(file=shown, width=80, color_system=None).print(terminal_table(results))
    assert shown.getvalue().count("3.32e-05") == 2
    assert "4.22e-05" in shown.getvalue()
    assert "…" not in shown.getvalue()


def test_results_with_gaps_are_json() -> None:
    assert json.loads(json.dumps(results_of()))["tasks"]["piezoelectric"]["test"] is None


PREDICTIONS = pd.DataFrame(
    {
        "id": ["=cmd|' /C calc'!A0", "+1", "-2", "@x", "\tt", "\rr", "plain", 'with "quotes", and comma'],
        "formula": ["Si"] * 8,
        "formation_energy [eV/atom]": [-1.5, 0.1, nan, -0.25, 0.0, 1e-9, 3.0, 2.0],
        "error_code": [""] * 8,
    }
)


def test_no_spreadsheet_runs_a_prediction_table(tmp_path: Path) -> None:
    write_predictions(PREDICTIONS, tmp_path / "out.csv", demo=False)
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(PREDICTIONS)  # no name breaks a line
    assert [row["id"] for row in rows[:4]] == ["'" + name for name in PREDICTIONS["id"][:4]]
    assert [row["id"][0] + row["id"][-1] for row in rows[4:6]] == ["'t", "'r"]
    assert [row["id"] for row in rows[6:]] == PREDICTIONS["id"].tolist()[6:]
    assert rows[0]["formation_energy [eV/atom]"] == "-1.5"  # numbers stay numbers
    assert rows[2]["formation_energy [eV/atom]"] == ""
    assert "model" not in rows[0]


def test_predictions_of_a_demo_model_say_so(tmp_path: Path) -> None:
    write_predictions(PREDICTIONS, tmp_path / "out.csv", demo=True)
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["model"].unique().tolist() == ["DEMO: labels are not DFT"]
    assert len(table) == len(PREDICTIONS)
