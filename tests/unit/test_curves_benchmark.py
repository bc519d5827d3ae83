"""Accuracy against CPU time: what is read off a line, the page, and the loop that trains the peers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from known_crystals import CRYSTALS
from torch import nn

import curves
from crystrata.errors import UsageError
from crystrata.training.callbacks import cosine_factor
from curves_page import Line, best_of_each, page, save_figure, seconds_to_reach
from peers import loop
from peers.sample import Sample
from peers.torch_settings import Learner
from speed import as_sample


def line(label: str, mae: list[float], rate: float = 1e-3) -> Line:
    return Line(label, 1234, rate, len(mae), mae, [10.0 * (epoch + 1) for epoch in range(len(mae))])


def test_the_time_to_an_mae_is_read_off_the_line() -> None:
    falling = line("a", [0.4, 0.2, 0.25, 0.1])
    assert seconds_to_reach(falling, 0.5) == 10  # nothing is known before the first epoch
    assert seconds_to_reach(falling, 0.2) == pytest.approx(20)
    assert seconds_to_reach(falling, np.sqrt(0.08)) == pytest.approx(np.sqrt(200))  # half-way in the logarithms
    assert 30 < seconds_to_reach(falling, 0.15) < 40
    assert seconds_to_reach(falling, 0.09) is None


def test_the_best_rate_stands_for_a_model() -> None:
    lines = [line("a", [0.4, 0.3]), line("b", [0.2]), line("a", [0.5, 0.25], 3e-3)]
    assert [(one.label, one.rate) for one in best_of_each(lines)] == [("a", 3e-3), ("b", 1e-3)]


def test_the_page_has_a_row_for_each_training_the_best_model_first(tmp_path: Path) -> None:
    lines = [line("a", [0.4, 0.35]), line("b", [0.25, 0.199]), line("a", [0.4, 0.3], 3e-3)]
    rows = [row for row in page(lines).splitlines() if row.startswith(("| a ", "| b "))]
    assert [row.split("|")[1:7] for row in rows] == [
        [" b ", " 1,234 ", " 0.001 ", " 2 ", " 0.1990 ", " 20 "],
        [" a ", " 1,234 ", " 0.003 ", " 2 ", " 0.3000 ", " 20 "],
        [" a ", " 1,234 ", " 0.001 ", " 2 ", " 0.3500 ", " 20 "],
    ]
    assert rows[1].endswith("| 20 | - | - | - |")
    save_figure(lines, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_peers_are_chosen_by_key() -> None:
    assert curves.chosen("") == list(curves.PEERS)
    assert [peer.key for peer in curves.chosen("mace-64,nequip-s")] == ["nequip-s", "mace-64"]
    with pytest.raises(UsageError, match="nequip-s"):
        curves.chosen("nequip-x")


def test_the_loop_has_the_schedule_of_the_trainer() -> None:
    assert [loop.cosine_factor(step, 70) for step in range(70)] == [cosine_factor(step, 70) for step in range(70)]


def test_the_loop_trains_on_the_first_crystals_and_validates_the_averaged_weights_on_the_others() -> None:
    crystals = list(CRYSTALS)[:5]
    sample = as_sample(crystals, np.array([1.0, 1.0, 1.0, 1.0, 3.0]))
    model, seen = nn.Linear(1, 1), []
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)

    def prepare(part: Sample) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(part))
        return torch.zeros(len(part), 1), torch.as_tensor(part.energy).float()

    learner = Learner(model, prepare, lambda inputs: model(inputs).squeeze(1))
    points = list(loop.trained(learner, sample, loop.Plan(rate=0.01, epochs=2.5, train=4, batch=2)))
    assert seen == [1, 2, 2, 2, 2, 2]  # the validation, then five steps
    assert [point["epoch"] for point in points] == [1, 2, 2.5]
    rates = [0.01 * loop.cosine_factor(step, 5) for step in range(5)]
    bias, average = 0.0, 0.0
    for step, rate in enumerate(rates, 1):
        bias = bias * (1 - rate * loop.WEIGHT_DECAY) + rate  # AdamW moves by the rate under a steady gradient
        keep = (1 + step) / (10 + step)
        average = keep * average + (1 - keep) * bias
    assert model.bias.item() == pytest.approx(bias, rel=1e-4)
    assert points[-1]["mae"] == pytest.approx(3 - average, rel=1e-5)
    assert points[0]["seconds"] <= points[1]["seconds"] <= points[2]["seconds"]
