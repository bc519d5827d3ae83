"""The page of accuracy: official tests by split, the network chosen on validation, and what lies outside training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accuracy import main, page
from crystrata.datasets.splits.published import SUITE
from crystrata.errors import UsageError
from crystrata.jarvis_properties import PUBLISHED
from crystrata.runs.directory import MANIFEST, RESULTS

FIGURES: dict[str, dict[str, Any]] = {
    "formation_energy_peratom": {
        "property": "formation_energy", "ids": 5572, "n": 5572, "mae": 0.0301, "median_mae": 0.86,
    },
    "dfpt_piezo_max_dij": {"property": "piezoelectric", "ids": 334, "n": 334, "mae": 11.214, "median_mae": 14.8},
    "epsy": {"property": "dielectric", "ids": 4449, "n": 4000, "mae": 9.0, "median_mae": None},
}  # fmt: skip
EPS = {name: {**FIGURES["epsy"], "n": 4449, "mae": mae} for name, mae in {"epsx": 18, "epsy": 19, "epsz": 20}.items()}
ABOUT = {"kind": "scalar", "unit": "eV/atom", "title": "what it is"}
HULL = {"ehull": {"property": "ehull_official", "ids": 5537, "n": 5537, "mae": 0.05, "median_mae": 1.1}}


def made_run(
    folder: Path,
    name: str,
    protocol: str = "union",
    *,
    algorithm: str = "e3nn",
    val: dict[str, float] | None = None,
    test: dict[str, float] | None = None,
    tests: dict[str, Any] | None = None,
    hours: float = 0.8765,
    **manifest: Any,
) -> Path:
    """Write the files of a run: `val` and `test` are its MAE per property, `tests` its official tests."""
    run = folder / f"run_{name}"
    run.mkdir()
    tests = FIGURES if tests is None else tests
    val = val or {figure["property"]: 0.1 for figure in tests.values()}
    test = test or dict.fromkeys(val, 0.2)
    both = {
        one: {**ABOUT, "val": {"mae": val[one]}, "test": {"mae": test[one], "mad": 0.8, "median_mae": 0.7}}
        for one in val
    }
    split = {"protocol": protocol, "seed": 42, "train": 34549}
    results = {"official_tests": tests, "tasks": both, "hours": hours, "best_epoch": 7, "split": split}
    contents = {
        RESULTS: results,
        MANIFEST: {
            "status": "completed",
            "device": "A card",
            "split": {"digest": protocol},
            "algorithm": algorithm,
            "mode": "std",
            **manifest,
        },
    }
    for file, content in contents.items():
        (run / file).write_text(json.dumps(content))
    return run


def cells(text: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in rows if set(row) != {"---"}]


def answers(text: str) -> dict[str, dict[str, str]]:
    """Return the first table of a page: first cell of a row -> its cells by title."""
    head, *rows = cells(text)
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head)}


def test_a_row_tells_all_of_a_test(tmp_path: Path) -> None:
    head, energy, dielectric, piezo, networks, network = cells(page([made_run(tmp_path, "a")]))
    assert head == [
        "official test", "ids", "median baseline", "CGCNN retrained", "ALIGNN", "best published", "ours",
    ]  # fmt: skip
    assert energy == [
        "formation_energy_peratom [eV/atom]", "5572", "0.86", "0.0551", "0.0331", "0.0263 CrystalFramer", "0.0301",
    ]  # fmt: skip
    assert (piezo[2], piezo[6]) == ("14.8; symmetry 12.93", "**11.21**")
    assert (dielectric[2], dielectric[6]) == ("-", "9 (labels of 4000)")
    assert networks == ["network", "kind", "trained on", "device", "hours"]
    assert network == ["a", "e3nn, level std", "34,549, seed 42", "A card", "0.876"]


def test_splits_have_tables_of_their_own(tmp_path: Path) -> None:
    energy = {name: FIGURES[name] for name in ("formation_energy_peratom",)}
    runs = [
        made_run(tmp_path, "a"),
        made_run(tmp_path, "b", "official:optb88vdw_bandgap", tests=energy),
        made_run(tmp_path, "c", split={"digest": "another seed"}),
    ]
    first, other, official = page(runs).split("\n## Protocol ")[1:]
    assert first.startswith("union\n")
    assert other.startswith("union\n")
    assert official.startswith("official:<benchmark>\n")
    assert "| b | e3nn, level std | 34,549, seed 42 | A card | 0.876 | official:optb88vdw_bandgap |" in official
    assert [len(answers(text)) for text in (first, official, other)] == [3, 1, 3]
    assert "Of 1 property, ours is below the retrained CGCNN on 1, below ALIGNN on 1, below the best" in official


def test_several_networks_of_one_split_must_be_one_ensemble_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a and b are e3nn runs on the same parts.*crystrata ensemble"):
        page([made_run(tmp_path, "a"), made_run(tmp_path, "b")])
    members = [
        {"run": "run_shared", "answers": ["formation_energy"], "hours": 0.8},
        {"run": "run_polished", "answers": [], "hours": 0.0765},
    ]
    text = page([made_run(tmp_path, "both", members=members)])
    assert cells(text)[-2:] == [
        ["- shared", "answers formation_energy", "", "", "0.8"], ["- polished", "answers nothing", "", "", "0.0765"],
    ]  # fmt: skip


def test_the_coverage_of_intervals_is_told(tmp_path: Path) -> None:
    run = made_run(tmp_path, "a")
    results = json.loads((run / RESULTS).read_text())
    share = {"n": 100, "coverage": 0.905, "width": 0.4}
    levels = {level: {"all": share, "metals": share, "non-metals": share} for level in ("80", "90", "95")}
    results["intervals"] = {"formation_energy": {"calibration": 50, "levels": levels}}
    (run / RESULTS).write_text(json.dumps(results))
    assert "| formation_energy | eV/atom | 80 | 90.5 |" in page([run])


def test_our_cgcnn_stands_beside_and_never_answers(tmp_path: Path) -> None:
    better = {name: {**figure, "mae": figure["mae"] / 2} for name, figure in FIGURES.items()}
    low = {figure["property"]: 0.01 for figure in FIGURES.values()}
    baseline = made_run(tmp_path, "c", algorithm="cgcnn", val=low, tests=better)
    row = answers(page([baseline, made_run(tmp_path, "a")]))["formation_energy_peratom [eV/atom]"]
    assert (row["our CGCNN"], row["ours"]) == ("0.01505", "0.0301")


def test_the_dielectric_tests_count_once_by_their_mean(tmp_path: Path) -> None:
    text = page([made_run(tmp_path, "a", tests={**FIGURES, **EPS})])
    mean = answers(text)["epsx, epsy, epsz: mean"]
    assert [mean[title] for title in ("CGCNN retrained", "ALIGNN", "best published", "ours")] == [
        "21.7", "20", "18.32 coNGN", "19",
    ]  # fmt: skip
    count = (
        "Of 3 properties, ours is below the retrained CGCNN on 3, below ALIGNN on 3, below the best published figure on"
    )
    assert f"{count} 1." in text


def test_where_the_ehull_row_comes_from_is_told(tmp_path: Path) -> None:
    assert "affine function" in page([made_run(tmp_path, "a", tests=HULL)])
    assert "affine function" not in page([made_run(tmp_path, "b")])


def outside_runs(folder: Path, protocol: str) -> list[Path]:
    errors = {"e3nn": 0.1, "cgcnn": 0.25}
    return [
        made_run(
            folder, f"{protocol}-{algorithm}", protocol, algorithm=algorithm, tests={},
            val={"formation_energy": 0.05, "band_gap": 0.05}, test={"formation_energy": error, "band_gap": 2 * error},
        )
        for algorithm, error in errors.items()
    ]  # fmt: skip


def test_tests_outside_training_have_tables_by_split(tmp_path: Path) -> None:
    runs = [*outside_runs(tmp_path, "by-prototype"), *outside_runs(tmp_path, "by-chemical-system")]
    prototype, system = page(runs).split("\n### ")[1:]
    assert prototype.startswith("by-prototype\n")
    assert system.startswith("by-chemical-system\n")
    assert answers(system)["formation_energy [eV/atom]"] == {
        "property": "formation_energy [eV/atom]", "MAD": "0.8", "median baseline": "0.7", "CGCNN": "0.25",
        "E3NN": "0.1", "ratio": "0.4",
    }  # fmt: skip
    assert cells(system)[-1] == [
        "by-chemical-system-cgcnn", "cgcnn, level std", "34,549, seed 42", "A card", "0.876",
    ]  # fmt: skip


def test_every_official_test_has_published_figures() -> None:
    assert set(PUBLISHED) == set(SUITE)
    assert all(one.best <= min(one.cgcnn, one.alignn) for one in PUBLISHED.values())


def test_other_runs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="is running, not completed"):
        page([made_run(tmp_path, "a", status="running")])
    nothing = made_run(tmp_path, "b", "random", tests={}, val={"formation_energy": 0.1})
    assert main([str(nothing), "--output", str(tmp_path / "page.md")]) == 2
    assert "its split is random" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


def test_the_page_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(made_run(tmp_path, "a")), "--output", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8").strip() == capsys.readouterr().out.strip()
