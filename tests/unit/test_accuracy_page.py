"""The page of accuracy: one row per run and official test, one table per protocol, bold where the best is beaten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accuracy import main, page
from crystrata.datasets.splits.leaderboard import SUITE
from crystrata.errors import UsageError
from crystrata.published import PUBLISHED
from crystrata.runs.directory import MANIFEST, RESULTS

FIGURES: dict[str, dict[str, Any]] = {
    "formation_energy_peratom": {
        "property": "formation_energy", "ids": 5572, "n": 5572, "mae": 0.0301, "median_mae": 0.86,
    },
    "dfpt_piezo_max_dij": {"property": "piezoelectric", "ids": 334, "n": 334, "mae": 11.214, "median_mae": 14.8},
    "epsy": {"property": "dielectric", "ids": 4449, "n": 4000, "mae": 9.0, "median_mae": None},
}  # fmt: skip


def made_run(folder: Path, name: str, protocol: str = "union", **changes: Any) -> Path:
    run = folder / name
    run.mkdir()
    split = {"protocol": protocol, "seed": 42, "train": 34549}
    results = {"official_tests": FIGURES, "hours": 0.8765, "split": split, **changes.pop("results", {})}
    (run / RESULTS).write_text(json.dumps(results))
    (run / MANIFEST).write_text(json.dumps({"status": "completed", "device": "A card", **changes}))
    return run


def cells(text: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in rows if set(row) != {"---"}]


def test_a_row_tells_all_of_a_test(tmp_path: Path) -> None:
    head, energy, piezo, dielectric = cells(page([made_run(tmp_path, "a")]))
    assert head == [
        "official test", "ids", "median baseline", "CGCNN retrained", "ALIGNN", "best published", "ours", "protocol",
        "device and hours",
    ]  # fmt: skip
    assert energy == [
        "formation_energy_peratom [eV/atom]", "5572", "0.86", "0.0551", "0.0331", "0.0263 CrystalFramer", "0.0301",
        "union, 34,549 trained on, seed 42", "A card, 0.876 h",
    ]  # fmt: skip
    assert (piezo[2], piezo[6]) == ("14.8; symmetry 12.93", "**11.21**")
    assert (dielectric[2], dielectric[6]) == ("-", "9 (labels of 4000)")


def test_protocols_have_tables_of_their_own(tmp_path: Path) -> None:
    energy = {name: FIGURES[name] for name in ("formation_energy_peratom",)}
    runs = [
        made_run(tmp_path, "a"),
        made_run(tmp_path, "b", "official:optb88vdw_bandgap", results={"official_tests": energy}),
        made_run(tmp_path, "c", device="Another card"),
    ]
    text = page(runs)
    union, official = text.split("\n## Protocol ")[1:]
    assert union.startswith("union\n")
    assert official.startswith("official:optb88vdw_bandgap\n")
    assert [row[-1].split(",")[0] for row in cells(union)[1:]] == ["A card"] * 3 + ["Another card"] * 3
    assert len(cells(official)) == 2


def test_every_official_test_has_published_figures() -> None:
    assert set(PUBLISHED) == set(SUITE)
    assert all(one.best <= min(one.cgcnn, one.alignn) for one in PUBLISHED.values())


def test_other_runs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="is running, not completed"):
        page([made_run(tmp_path, "a", status="running")])
    split = {"protocol": "random", "seed": 1, "train": 5}
    nothing = made_run(tmp_path, "b", results={"official_tests": {}, "split": split})
    assert main([str(nothing), "--output", str(tmp_path / "page.md")]) == 2
    assert "its split is random" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


def test_the_page_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(made_run(tmp_path, "a")), "--output", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8").strip() == capsys.readouterr().out.strip()
