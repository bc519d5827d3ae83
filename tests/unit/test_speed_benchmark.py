"""The speed benchmark: crystals reach the workers unchanged, workers answer, the page tells what they answered."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from known_crystals import CRYSTALS

from crystrata.errors import UsageError
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.neighbours import build_graphs
from growth import exponent, growth, supercell
from peers.contest import Contestant, Measured, contest, ratios, spread
from peers.page import goal_table, page
from peers.rows import CONTESTANTS, GOALS, GROUPS, Goal
from peers.sample import Sample, join
from peers.worker import Case, serve
from speed import as_sample, chosen_rows

HEAD = "# Speed\n"


@pytest.fixture(scope="module")
def sample() -> Sample:
    """The known crystals as the workers get them."""
    return as_sample(list(CRYSTALS), np.linspace(-1, 1, len(CRYSTALS)))


def contestant(key: str, module: str = "", function: str = "", group: str = "collate") -> Contestant:
    return Contestant(key, group, f"label of {key}", module, function)


def answers(prepare: Callable[[], Case], requests: str) -> list[dict]:
    written = io.StringIO()
    serve(prepare, io.StringIO(requests), written)
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_positions_and_shifts_give_the_edges(sample: Sample) -> None:
    vector = sample.positions[sample.neighbour_in_sample] + sample.shift - sample.positions[sample.centre]
    np.testing.assert_allclose(vector, sample.vector, atol=1e-5)
    assert len(sample.neighbour) > 12 * len(sample.numbers)


def test_pairs_give_the_cosines(sample: Sample) -> None:
    for one in sample.split():
        unit = one.vector / np.linalg.norm(one.vector, axis=1, keepdims=True)
        first, second = one.pair.T
        np.testing.assert_allclose((unit[first] * unit[second]).sum(1), one.cosine, atol=1e-4)


def test_a_sample_survives_file_split_and_join(sample: Sample, tmp_path: Path) -> None:
    sample.save(tmp_path / "sample.npz")
    loaded = Sample.load(tmp_path / "sample.npz")
    again = join([join(part.split()) for part in loaded.batches(3)])
    assert len(loaded.batches(3)[0]) == 3
    for name in Sample.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(sample, name))
    for one, crystal in zip(sample.split(), CRYSTALS, strict=True):
        assert one.numbers.tolist() == crystal.numbers.tolist()


def test_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peers.worker.LEAST_SECONDS", 1e-6)
    runs = []
    case = Case(lambda: runs.append(1), 7, {"parameters": 3})
    ready, first, second = answers(lambda: case, "round\nround\n")
    assert ready == {"ready": {"crystals": 7, "facts": {"parameters": 3}}}
    assert first["seconds"] >= 0
    assert second["seconds"] >= 0


def test_a_short_round_repeats_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0, 1000, 0.5))  # half a second passes between two looks
    monkeypatch.setattr("peers.worker.time.process_time", lambda: float(next(clock)))
    monkeypatch.setattr("peers.worker.LEAST_SECONDS", 5.0)
    runs = []
    _, timed = answers(lambda: Case(lambda: runs.append(1), 1), "round\n")
    assert len(runs) == 1 + 1 + 10  # warm-up, calibration, a round
    assert timed["seconds"] == pytest.approx(0.05)  # per time


def test_an_absent_peer_and_a_failure_are_told_apart() -> None:
    def absent() -> Case:
        raise ModuleNotFoundError("No module named 'peer'")

    def broken() -> Case:
        raise ValueError("wrong shape\nand more")

    assert answers(absent, "") == [{"absent": "No module named 'peer'"}]
    assert answers(broken, "") == [{"failed": "ValueError: wrong shape"}]


def test_workers_take_turns(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "sample.npz"
    sample.first(2).save(path)
    lines: list[str] = []
    rows = [
        Contestant("vectors", "collate", "pyg", "pyg_peer", "collation", {"angles": False, "batch": 2}),
        contestant("missing", "no_such_adapter", "graphs"),
        contestant("wrong", "sample", "no_such_function"),
    ]
    measured = contest(rows, [sys.executable], path, 2, lines.append)
    good, missing, wrong = measured
    assert good.problem == ""
    assert len(good.seconds) == 2
    assert min(good.seconds) > 0
    assert good.crystals == 2
    assert good.facts["edges per atom"] == pytest.approx(sample.first(2).edges_per_atom)
    assert missing.problem.startswith("not installed: No module named 'peers.no_such_adapter'")
    assert "no_such_function" in wrong.problem
    assert "round 2 of 2: vectors" in lines


def test_ratios_are_per_crystal_and_round_by_round() -> None:
    slow = Measured(contestant("slow"), crystals=10, seconds=[10.0, 30.0, 40.0])
    fast = Measured(contestant("fast"), crystals=20, seconds=[2.0, 4.0, 4.0])
    assert ratios(slow, fast) == [10.0, 15.0, 20.0]
    assert spread(ratios(slow, fast)) == (10.0, 15.0, 20.0)
    assert slow.per_crystal(1e-3) == [1000.0, 3000.0, 4000.0]


def test_the_table_of_goals() -> None:
    slow = Measured(contestant("slow"), crystals=1, seconds=[20.0, 3000.0, 200.0])
    fast = Measured(contestant("fast"), crystals=1, seconds=[1.0, 1.0, 1.0])
    lost = Measured(contestant("lost"), problem="not installed: No module named 'lost'")
    goals = [Goal("a", "slow", "fast", 50), Goal("b", "lost", "fast"), Goal("c", "unasked", "fast", 1)]
    table = goal_table([slow, fast, lost], goals).to_dict("records")
    assert [row["what"] for row in table] == ["a", "b"]  # the third was not to be measured
    assert table[0]["at least"] == "50x"
    assert table[0]["measured"] == "200x"
    assert table[0]["least and greatest round"] == "20 - 3,000"
    assert table[1]["measured"] == "not measured"


def test_the_page_tells_what_is_missing() -> None:
    good = Measured(contestant("collate"), crystals=100, facts={"edges per atom": 20.77}, seconds=[1e-3, 3e-3, 2e-3])
    lost = Measured(contestant("collate-pyg"), problem="not installed: No module named 'torch_geometric'")
    text = page(HEAD, [good, lost])
    assert text.startswith(HEAD)
    assert "| label of collate | 20 | 10 - 30 | 50,000 | 20.8 |" in text
    assert "not installed: No module named 'torch_geometric'" in text
    assert "parameters" not in text  # a column that no row fills
    assert "## Training step" not in text  # a table without rows


def test_rows_are_chosen_by_key_and_by_group() -> None:
    assert chosen_rows("") == list(CONTESTANTS)
    assert [one.key for one in chosen_rows("radius,plain")] == [
        "radius", "radius-pymatgen", "radius-matscipy", "radius-vesin", "plain",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="radius-vesin"):
        chosen_rows("radius-vesim")


def test_rows_and_goals_fit_together() -> None:
    keys = [one.key for one in CONTESTANTS]
    assert len(set(keys)) == len(keys)
    assert {one.group for one in CONTESTANTS} <= {group.key for group in GROUPS}
    groups = {one.key: one.group for one in CONTESTANTS}
    for goal in GOALS:
        assert groups[goal.slow] == groups[goal.fast], goal  # only rows that took turns are compared


def test_a_supercell_is_the_same_crystal_written_larger() -> None:
    for crystal in CRYSTALS:
        graphs, _ = build_graphs(enumerate([crystal, supercell(crystal, 2)]), GraphSettings())
        edges = np.diff(graphs.edge_offsets)
        assert edges[1] == 8 * edges[0], crystal.id
        assert graphs.atom_counts.tolist() == [len(crystal), 8 * len(crystal)]


def test_growth_is_seen() -> None:
    assert exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)
    if sys.platform == "linux":
        assert 60 < growth(lambda: np.ones(8 << 20)) < 80  # 64 MB
        assert growth(lambda: None) < 5
