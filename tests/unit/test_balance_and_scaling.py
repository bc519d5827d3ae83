"""The weight of each task in the loss, and the scaling of labels inside the model. B crystals, P properties."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from known_crystals import CRYSTALS, SETTINGS, batch_of
from torch import Tensor

from crystrata.datasets.batch import Batch, Targets
from crystrata.elements import MAX_ATOMIC_NUMBER
from crystrata.jarvis_properties import PROPERTIES, property_tasks
from crystrata.networks.config import NetworkConfig
from crystrata.networks.latent import atomic_fractions
from crystrata.networks.loss_weights import LossWeights
from crystrata.networks.network import Network, count_parameters
from crystrata.networks.scaling import Scaling

TASKS = ("band_gap", "dielectric", "formation_energy")
SCALARS = tuple(
    replace(task, head={"hidden": [8]})
    for name in TASKS
    for task in property_tasks([name], {} if name == "formation_energy" else {name: "scalar"})
)


def fit(scaling: Scaling, labels: Tensor, fractions: Tensor) -> None:
    """Fit a scaling on labels that are all known."""
    scaling.fit(labels, torch.ones(len(labels), dtype=torch.bool), fractions if scaling.uses_ridge else None)


def scaling_of(name: str) -> Scaling:
    """The scaling of a property's own head."""
    task = PROPERTIES[name]
    return Scaling(task.transform, centre="median", ridge=task.additive)


def step(balance: LossWeights, means: Mapping[str, float], count: int = 4) -> Tensor:
    """Loss of a step in which each task has `count` labels of the given mean loss."""
    sums = {task: torch.tensor(count * mean, dtype=torch.double) for task, mean in means.items()}
    return balance(sums, {task: torch.tensor(count) for task in means})


def test_static_weights_multiply_the_means() -> None:
    balance = LossWeights(TASKS, learned=False, weights={"dielectric": 3.0})
    loss = step(balance, {"band_gap": 0.5, "dielectric": 0.25, "formation_energy": 1.0})
    assert float(loss) == pytest.approx(0.5 + 3 * 0.25 + 1.0)
    assert list(balance.parameters()) == []
    assert balance.sigmas() == {}


def test_learned_weights_start_at_one_half() -> None:
    balance = LossWeights(TASKS, learned=True, weights={"dielectric": 3.0})
    assert float(step(balance, {"band_gap": 0.5, "dielectric": 0.25}).detach()) == pytest.approx(0.5 * (0.5 + 0.75))
    assert balance.sigmas() == dict.fromkeys(TASKS, 1.0)


def test_sigmas_go_by_name_not_by_place() -> None:
    balance = LossWeights(TASKS, learned=True).double()
    with torch.no_grad():
        balance.log_sigma["dielectric"].fill_(0.7)
    forwards = step(balance, {"band_gap": 0.5, "dielectric": 0.25})
    backwards = step(balance, {"dielectric": 0.25, "band_gap": 0.5})
    assert float(forwards.detach()) == pytest.approx(0.5 * 0.5 + 0.5 * 0.25 * math.exp(-1.4) + 0.7)
    assert torch.equal(forwards, backwards)
    other = LossWeights(TASKS[::-1], learned=True).double()
    other.load_state_dict(balance.state_dict())
    assert other.sigmas() == balance.sigmas()


def test_an_absent_task_contributes_nothing() -> None:
    balance = LossWeights(TASKS, learned=True).double()
    with torch.no_grad():
        balance.log_sigma["dielectric"].fill_(0.7)
    sums = {task: torch.tensor(2.0 if task == "band_gap" else 0.0, dtype=torch.double) for task in TASKS}
    counts = {task: torch.tensor(4 if task == "band_gap" else 0) for task in TASKS}
    loss = balance(sums, counts)
    assert torch.equal(loss, step(balance, {"band_gap": 0.5}))
    loss.backward()
    assert balance.log_sigma["band_gap"].grad != 0
    for task in TASKS[1:]:
        assert balance.log_sigma[task].grad == 0


@given(
    mean=st.floats(0.01, 100.0), weight=st.floats(0.1, 10.0), start=st.floats(-2.0, 2.0)
)  # the minimum is the same wherever the descent starts
def test_sigma_is_trained_towards_the_root_of_the_weighted_loss(mean: float, weight: float, start: float) -> None:
    balance = LossWeights(("band_gap",), learned=True, weights={"band_gap": weight}).double()
    s = balance.log_sigma["band_gap"]
    with torch.no_grad():
        s.fill_(0.5 * math.log(weight * mean))
    step(balance, {"band_gap": mean}).backward()
    assert s.grad is not None
    assert abs(float(s.grad)) < 1e-9
    lowest = step(balance, {"band_gap": mean})
    with torch.no_grad():
        s.fill_(start)
    assert step(balance, {"band_gap": mean}) >= lowest - 1e-12


def test_descent_finds_that_sigma() -> None:
    balance = LossWeights(("band_gap",), learned=True, weights={"band_gap": 2.0})
    optimizer = torch.optim.SGD(balance.parameters(), lr=0.2)
    for _ in range(100):
        optimizer.zero_grad()
        step(balance, {"band_gap": 0.08}).backward()
        optimizer.step()
    assert balance.sigmas()["band_gap"] == pytest.approx(math.sqrt(2.0 * 0.08), rel=1e-4)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("sizes", [(8,), (3, 3, 2), (1, 7), (1,) * 8])
def test_micro_batches_add_up_to_the_step(learned: bool, sizes: tuple[int, ...]) -> None:
    """Loss and gradients of a step are the same in one piece or in several, though labels lie unevenly."""
    config = NetworkConfig(SCALARS, "cgcnn", {"channels": 8, "layers": 1}, SETTINGS)
    network, balance = Network(config).double(), LossWeights(TASKS, learned=learned).double()
    with torch.no_grad():
        for s in balance.log_sigma.values():
            s.fill_(0.3)
    targets = torch.linspace(1.5, 9.0, 24, dtype=torch.double).reshape(8, 3)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]) > 0
    counts = dict(zip(TASKS, mask.sum(0), strict=True))
    parameters = [*network.parameters(), *balance.parameters()]

    def part(first: int, last: int) -> Tensor:
        batch = batch_of(CRYSTALS[first:last]).to(dtype=torch.double)
        chosen = {
            name: Targets(targets[first:last, place], mask[first:last, place]) for place, name in enumerate(TASKS)
        }
        sums = network.loss_sums(Batch(torch.arange(last - first), chosen, crystals=batch))
        return balance(sums, counts, share=(last - first) / 8)

    whole = part(0, 8)
    expected = torch.autograd.grad(whole, parameters, allow_unused=True)
    ends = np.cumsum((0, *sizes))
    total = torch.stack([part(first, last) for first, last in pairwise(ends)]).sum()
    torch.testing.assert_close(total, whole, rtol=1e-12, atol=1e-12)
    for found, wanted in zip(torch.autograd.grad(total, parameters), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def compositions(n: int, seed: int = 4) -> Tensor:
    """Random atomic fractions over five elements, (n, 103)."""
    fractions = np.zeros((n, MAX_ATOMIC_NUMBER), dtype=np.float32)
    fractions[:, [7, 13, 21, 28, 55]] = np.random.default_rng(seed).dirichlet(np.ones(5), n)
    return torch.from_numpy(fractions)


def test_the_ridge_carries_what_is_linear_in_the_composition() -> None:
    fractions = compositions(2000)
    slopes = torch.zeros(MAX_ATOMIC_NUMBER)
    slopes[[7, 13, 21, 28, 55]] = torch.tensor([-3.0, 1.0, 0.5, 2.0, -1.0])
    noise = 0.01 * torch.randn(2000)
    scaling = scaling_of("formation_energy")
    fit(scaling, fractions @ slopes - 1.7 + noise, fractions)
    assert float(scaling.scale) < 0.03  # the spread of the labels is 0.8; what is left is the noise
    rest = scaling.standardise(fractions @ slopes - 1.7, fractions) * scaling.scale
    assert rest.abs().max() < 0.05
    plain = scaling_of("bulk_modulus")
    fit(plain, fractions @ slopes - 1.7 + noise, fractions)
    assert float(plain.scale) > 0.5
    assert not plain.uses_ridge


def test_an_element_never_seen_adds_nothing() -> None:
    fractions = compositions(50)
    scaling = scaling_of("formation_energy")
    fit(scaling, fractions @ torch.randn(MAX_ATOMIC_NUMBER), fractions)
    seen = fractions.sum(0) > 0
    assert scaling.ridge[seen].abs().min() > 0
    assert scaling.ridge[~seen].abs().max() < 1e-12


@pytest.mark.parametrize("name", PROPERTIES)
def test_location_is_the_median_and_scale_the_mean_deviation(name: str) -> None:
    scaling, fractions = scaling_of(name), compositions(401)
    labels = torch.distributions.LogNormal(1.0, 1.0).sample((401,))
    fit(scaling, labels, fractions)
    z = scaling.standardise(labels, fractions)
    assert float(z.median()) == pytest.approx(0.0, abs=1e-5)
    assert float(z.abs().mean()) == pytest.approx(1.0, rel=1e-4)


def test_asinh_keeps_the_median_and_tames_the_tail() -> None:
    scaling, fractions = scaling_of("piezoelectric"), compositions(401)
    labels = torch.distributions.LogNormal(1.0, 2.0).sample((401,))
    labels[:20] = 0.0
    fit(scaling, labels, fractions)
    assert float(scaling.transform_scale) == pytest.approx(float(labels[labels != 0].median()))
    middle = scaling.restore(torch.zeros(401), fractions)
    torch.testing.assert_close(middle, labels.median().expand(401), rtol=1e-5, atol=1e-5)
    z = scaling.standardise(labels, fractions)
    assert float(z.max()) < 0.1 * float((labels / labels.std()).max() * labels.std() / labels.median())
    order = scaling.restore(torch.linspace(-50, 50, 401), fractions)
    assert torch.isfinite(order).all()
    assert (order.diff() >= 0).all()


def test_fitting_twice_is_fitting_once() -> None:
    scaling, fractions, labels = scaling_of("dielectric"), compositions(31), 2 + 9 * torch.rand(31)
    fit(scaling, torch.rand(31) + 500, fractions)
    fit(scaling, labels, fractions)
    fresh = scaling_of("dielectric")
    fit(fresh, labels, fractions)
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, scaling.state_dict()[name]), name


def test_the_network_fits_each_head_on_its_known_labels() -> None:
    config = NetworkConfig(SCALARS, "cgcnn", {"channels": 8, "layers": 1}, SETTINGS)
    network, batch = Network(config), batch_of(CRYSTALS)
    labels = torch.full((8, 3), math.nan)
    labels[:5, 0] = torch.tensor([0.0, 1.0, 2.0, 3.0, 10.0])
    labels[2:, 2] = torch.linspace(-2, 1, 6)
    targets = {name: Targets(column, column.isfinite()) for name, column in zip(TASKS, labels.T, strict=True)}
    network.fit_scaling(targets, fractions=atomic_fractions(batch))
    assert float(network.head("band_gap").scaling.location) == 2.0
    assert float(network.head("band_gap").scaling.scale) == pytest.approx(2.4)
    assert float(network.head("dielectric").scaling.scale) == 1.0  # no label: left as it was
    assert network.head("formation_energy").scaling.ridge.any()


def test_a_network_is_rebuilt_from_its_configuration_and_weights() -> None:
    config = NetworkConfig(SCALARS, "e3nn", {"channels": 8, "layers": 1, "angles": "density"}, SETTINGS)
    again = NetworkConfig.from_dict(config.as_dict())
    assert again == config
    first, second = Network(config), Network(again)
    assert count_parameters(first) == sum(p.numel() for p in first.parameters()) > 1000
    second.load_state_dict(first.state_dict())
    batch = Batch(torch.arange(8), {}, crystals=batch_of(CRYSTALS))
    predictions = first(batch)
    assert tuple(predictions) == TASKS
    for name, values in second(batch).items():
        assert values.shape == (8,)
        assert torch.equal(values, predictions[name])


def test_the_emphasis_scales_a_task_and_leaves_its_sigma() -> None:
    """A learned sigma cancels a static weight; the emphasis must survive it."""
    sums, counts = {"band_gap": torch.tensor(3.0)}, {"band_gap": torch.tensor(2)}
    plain, strong = (
        LossWeights(("band_gap",), learned=True, emphasis=emphasis) for emphasis in (None, {"band_gap": 4.0})
    )
    assert strong(sums, counts) == 4 * plain(sums, counts)
    gradients = [torch.autograd.grad(each(sums, counts), each.log_sigma["band_gap"])[0] for each in (plain, strong)]
    assert gradients[1] == 4 * gradients[0] != 0  # the same zero, hence the same sigma
