"""The learning rate over time and the moving average of the weights, without a trainer around them."""

from __future__ import annotations

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from crystrata.training.callbacks import LearningRate, MovingAverage, cosine_factor

PEAK = 0.1


@pytest.mark.parametrize("steps", [2, 3, 20, 1000])
def test_the_cosine_rises_for_a_twentieth_and_ends_at_one_percent(steps: int) -> None:
    factors = [cosine_factor(step, steps) for step in range(steps)]
    warm_up = max(1, round(steps / 20))
    assert factors[:warm_up] == pytest.approx([(step + 1) / warm_up for step in range(warm_up)])
    assert max(factors) == 1
    assert all(after <= before for before, after in zip(factors[warm_up:], factors[warm_up + 1 :], strict=False))
    assert min(factors[warm_up:], default=0.5) > 0.01 - 1e-12
    assert cosine_factor(steps, steps) == pytest.approx(0.01)
    assert cosine_factor(3 * steps + 7, steps) == pytest.approx(0.01)  # never rises again


def test_half_way_the_cosine_is_half_way() -> None:
    assert cosine_factor(10 + 95, 200) == pytest.approx((1 + 0.01) / 2)


def trainer_of(optimizer: torch.optim.Optimizer, **state: object) -> SimpleNamespace:
    """What the callbacks read of a trainer."""
    return SimpleNamespace(optimizers=[optimizer], estimated_stepping_batches=100, callback_metrics={}, **state)


def two_groups() -> torch.optim.Optimizer:
    """An optimizer with weights and balance apart, as the task makes it."""
    return torch.optim.SGD(
        [{"params": [nn.Parameter(torch.zeros(1))]}, {"params": [nn.Parameter(torch.ones(1))]}], PEAK
    )


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def test_the_rate_of_a_step_does_not_depend_on_the_steps_before() -> None:
    optimizer, module = two_groups(), L.LightningModule()
    for step in (70, 3, 70):
        LearningRate("cosine", PEAK).on_train_batch_start(trainer_of(optimizer, global_step=step), module, None, 0)
        assert rates(optimizer) == [PEAK * cosine_factor(step, 100)] * 2


def plateau_rates(scores: list[float], callback: LearningRate, optimizer: torch.optim.Optimizer) -> list[float]:
    """The rate after each validation."""
    trainer, module, found = trainer_of(optimizer), L.LightningModule(), []
    callback.on_fit_start(trainer, module)
    callback.on_train_start(trainer, module)
    for score in scores:
        trainer.callback_metrics["val_score"] = torch.tensor(score)
        callback.on_validation_end(trainer, module)
        found.append(rates(optimizer)[0])
    return found


def test_the_plateau_rule_halves_after_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crystrata.training.callbacks._PLATEAU_PATIENCE", 2)
    scores = [1.0, 0.9, 0.9, 0.9, 0.9, 0.8, 0.8, 0.8, 0.8]
    found = plateau_rates(scores, LearningRate("plateau", PEAK), two_groups())
    assert found == pytest.approx([PEAK] * 4 + [PEAK / 2] * 4 + [PEAK / 4])


def test_the_plateau_rule_stops_at_one_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crystrata.training.callbacks._PLATEAU_PATIENCE", 0)
    assert plateau_rates([1.0] * 30, LearningRate("plateau", PEAK), two_groups())[-1] == pytest.approx(PEAK / 100)


def test_the_plateau_rule_goes_on_where_it_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crystrata.training.callbacks._PLATEAU_PATIENCE", 2)
    scores = [1.0, 0.9, 0.95, 0.93, 0.92, 0.91, 0.9, 0.9]
    straight = plateau_rates(scores, LearningRate("plateau", PEAK), two_groups())
    assert len(set(straight)) == 3
    for cut in range(1, len(scores)):
        first, optimizer = LearningRate("plateau", PEAK), two_groups()
        before = plateau_rates(scores[:cut], first, optimizer)
        second = LearningRate("plateau", PEAK)
        second.load_state_dict(first.state_dict())
        assert before + plateau_rates(scores[cut:], second, optimizer) == straight


def test_a_cosine_leaves_validation_alone() -> None:
    callback, optimizer = LearningRate("cosine", PEAK), two_groups()
    assert plateau_rates([1.0] * 50, callback, optimizer) == [PEAK] * 50
    assert callback.state_dict() == {}


class Module(L.LightningModule):
    """A task as the average sees it: a network with a weight and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.BatchNorm1d(2)
        self.outside = nn.Parameter(torch.zeros(1))

    def set(self, value: float) -> None:
        with torch.no_grad():
            self.network.weight.fill_(value)


def average_over(values: list[float], decay: float, module: Module, callback: MovingAverage | None = None) -> Tensor:
    """The average after optimizer steps that set the weight to these values."""
    callback = callback or MovingAverage(decay)
    trainer = SimpleNamespace(global_step=callback.steps)
    callback.on_fit_start(trainer, module)  # type: ignore[arg-type]
    for value in values:
        module.set(value)
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, module, None, None, 0)  # type: ignore[arg-type]
    return callback.average["weight"]


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_average_follows_its_formula(decay: float) -> None:
    module, values, expected = Module(), [3.0, -1.0, 2.0, 8.0], 1.0  # a batch norm starts at weight 1
    for step, value in enumerate(values, start=1):
        d = min(decay, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * value
    torch.testing.assert_close(average_over(values, decay, module), torch.full((2,), expected))


def test_validation_sees_the_average_and_training_goes_on_with_the_weights() -> None:
    module, callback = Module(), MovingAverage(0.9)
    average = average_over([4.0], 0.9, module, callback).clone()
    callback.on_validation_start(None, module)  # type: ignore[arg-type]
    assert torch.equal(module.network.weight, average)
    assert not torch.equal(average, torch.full((2,), 4.0))
    callback.on_validation_end(None, module)  # type: ignore[arg-type]
    assert module.network.weight.tolist() == [4.0, 4.0]
    assert torch.equal(callback.average["weight"], average)


def test_the_averaged_network_is_whole_and_a_copy() -> None:
    module, callback = Module(), MovingAverage(0.9)
    average_over([4.0], 0.9, module, callback)
    state = callback.averaged_network(module)  # type: ignore[arg-type]
    assert set(state) == set(module.network.state_dict())  # buffers too
    assert torch.equal(state["weight"], callback.average["weight"])
    state["weight"].fill_(99)
    state["running_mean"].fill_(99)
    assert 99 not in callback.average["weight"]
    assert 99 not in module.network.running_mean


def test_the_average_goes_on_where_it_was_left() -> None:
    values = [3.0, -1.0, 2.0, 8.0]
    straight = average_over(values, 0.999, Module())
    first, module = MovingAverage(0.999), Module()
    average_over(values[:2], 0.999, module, first)
    second = MovingAverage(0.999)
    second.load_state_dict(first.state_dict())
    assert torch.equal(average_over(values[2:], 0.999, module, second), straight)
