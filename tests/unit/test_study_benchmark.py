"""The page of the study: the progress of each path from the seeds to the targets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from crystrata.sources.demo import open_demo
from study import PAGE, way_table

DOCS = Path(__file__).parents[2] / "docs/inverse-design.md"


def scenario(name: str, seeds: list[list[float]], **paths: list[list[float]]) -> dict[str, Any]:
    """Return what `results.json` holds of a scenario that asks for a class, -2 of one value and 10 of another."""
    objectives = [
        {"title": "P(metal)", "value": None, "classes": ["metal"]},
        {"title": "energy", "value": -2.0, "classes": []},
        {"title": "moment", "value": 10.0, "classes": []},
    ]
    found = {name: {"values": values} for name, values in paths.items()}
    return {"scenario": name, "objectives": objectives, "seed_values": seeds, "paths": found}


def test_shares_are_those_of_the_means_on_the_way_from_the_seeds() -> None:
    near = scenario("near", [[1, -0.5, 0], [1, 0.5, 0]], latent_alpha_0=[[0, -1, 4], [0, -2, 2]],
                    composition_strict_seed=[[1, 0.2, 0], [1, 0.2, 12]])  # fmt: skip
    far = scenario("far", [[1, 0, 5]], latent_alpha_0=[[1, -2, 10]], composition_strict_seed=[[1, 0.001, 5]])
    table = way_table([near, far])
    assert list(table.columns) == ["path", "near", "far", "least", "most"]
    assert table.to_numpy().tolist() == [
        ["latent, alpha 0", "energy 75, moment 30", "energy 100, moment 100", 30, 100],
        ["composition, strict seed", "energy -10, moment 60", "energy 0, moment 0", -10, 60],
    ]


def test_shares_in_the_manual_of_design_are_on_the_page() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    head = next(place for place, row in enumerate(rows) if row[-2:] == ["least", "most"])
    ranges = {row[0]: (int(row[-2]), int(row[-1])) for row in rows[head + 2 : head + 10]}
    ranges_in_docs = re.findall(r"(\d+) to (\d+) %", " ".join(DOCS.read_text(encoding="utf-8").split()))
    groups = [
        ["latent, alpha 0"],
        ["latent, alpha 0.5", "latent, alpha 1"],
        ["composition, seed blend", "composition, random start"],
        ["composition, whitelist"],
        ["composition, strict seed", "composition, low diversity"],
    ]
    assert sorted(name for group in groups for name in group) == sorted(ranges)
    for group in groups:
        least, most = zip(*(ranges[name] for name in group), strict=True)
        assert (str(min(least)), str(max(most))) in ranges_in_docs


def test_the_manual_of_design_counts_the_demo_crystals() -> None:
    assert f"the {len(open_demo().labels)} demo crystals" in DOCS.read_text(encoding="utf-8")
