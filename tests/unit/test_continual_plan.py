"""The steps of continual learning: order, replay amounts, interval; and splits taken over from another run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from crystrata.datasets.labels import labels_of
from crystrata.datasets.materials import unite
from crystrata.datasets.splits import Candidates, SplitRequest, resolve_split
from crystrata.errors import DataError, UsageError
from crystrata.runs.continual_config import ContinualConfig
from crystrata.tasks import Task
from crystrata.workflows.continual_preparation import ContinualStep, plan_steps

NAMES = ("a", "b", "c", "d")
SAMPLES = {"a": 100, "b": 40, "c": 8, "d": 10}


def steps(tasks: tuple[str, ...] = NAMES, **values: Any) -> list[ContinualStep]:
    return plan_steps(
        ContinualConfig(catalogue="demo", **values), tasks, {name: SAMPLES.get(name, 1) for name in tasks}
    )


def test_every_earlier_task_is_replayed_by_its_amount() -> None:
    found = steps(replay=0.1, replay_by_task={"b": 7, "c": 0})
    assert [step.folder for step in found] == ["step01_a", "step02_b", "step03_c", "step04_d"]
    assert [dict(step.replayed) for step in found] == [{}, {"a": 10}, {"a": 10, "b": 7}, {"a": 10, "b": 7}]
    assert dict(steps(replay=50)[3].replayed) == {"a": 50, "b": 40, "c": 8}  # more than there are means all


def test_replay_may_come_on_every_nth_step() -> None:
    assert [dict(step.replayed) for step in steps(replay=5, replay_interval=3)] == [{}, {}, {"a": 5, "b": 5}, {}]


def test_the_order_is_that_of_its_seed_and_the_last_tasks_stay_last() -> None:
    orders = {tuple(step.task for step in steps(order_seed=seed, last=("b", "a"))) for seed in range(8)}
    assert orders == {("c", "d", "b", "a"), ("d", "c", "b", "a")}
    assert [step.task for step in steps(order_seed=3)] == [step.task for step in steps(order_seed=3)]


@pytest.mark.parametrize(
    ("tasks", "values", "complaint"),
    [
        (NAMES, {"last": ("e",)}, "unknown task in last 'e'"),
        (NAMES, {"replay_by_task": {"aa": 1}}, "unknown task in replay_by_task 'aa'"),
        (("a", "b/c"), {}, "cannot name a folder"),
    ],
)
def test_names_are_checked_before_anything_is_trained(
    tasks: tuple[str, ...], values: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        steps(tasks, **values)


def test_a_split_is_taken_over_by_composition(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index=["NaCl", "Fe", "LiF"])
    materials, _ = unite({"a": labels_of(Task("a", columns=("a",)), table, str)}, {"Cu": "Cu"})
    kept = {"protocol": "rare first", "seed": 7, "digest": "", "train": ["LiF", "Cu"], "val": ["Fe"], "test": ["NaCl"]}
    file = tmp_path / "splits.json"
    file.write_text(json.dumps(kept))
    request = SplitRequest(Candidates.of(materials), 42, tmp_path, splits_file=file)
    split = resolve_split("saved", request)
    found = split.as_dict(materials.ids)
    assert {part: set(found[part]) for part in ("train", "val", "test")} == {
        "train": {"LiF", "Cu"}, "val": {"Fe"}, "test": {"NaCl"}
    }  # fmt: skip
    assert (split.protocol, split.seed) == ("rare first", 7)
    for wrong, complaint in (
        ({**kept, "val": []}, r"1 compositions are in no part .* \(Fe\)"),
        ({**kept, "val": ["NaCl"]}, "stands in two parts"),
        ({}, "no split can be read"),
    ):
        file.write_text(json.dumps(wrong))
        with pytest.raises(DataError, match=complaint):
            resolve_split("saved", request)
    with pytest.raises(UsageError, match="--splits-file"):
        resolve_split("saved", replace(request, splits_file=None))
