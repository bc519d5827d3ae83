"""Searches for compositions and latents: they reach objectives, satisfy constraints, leave the network unchanged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crystrata.compositions.descriptors import KernelMean
from crystrata.compositions.keys import weights as fractions_of
from crystrata.datasets.batch import Targets
from crystrata.design.composition_search import CompositionSettings, optimize_composition
from crystrata.design.constraints import ELEMENTS, Constraints
from crystrata.design.latent_search import LatentSettings, optimize_latent
from crystrata.design.objectives import Objective
from crystrata.design.trained import DesignModel
from crystrata.elements import SYMBOLS
from crystrata.errors import UsageError
from crystrata.networks.config import NetworkConfig
from crystrata.networks.latent import Latent
from crystrata.networks.network import Network
from crystrata.tasks import Task

FORMULAS = ["NaCl", "Fe2O3", "Li2O", "TiO2", "SiO2", "MgB2", "LiFePO4", "GaAs", "BaTiO3", "CaF2", "Cu", "YBa2Cu3O7"]
SQUARES = {"error": "mse", "centre": "mean", "norm": "layer", "activation": "leaky_relu"}
TASKS = (
    Task("gap", "scalar", columns=("gap",), head=SQUARES),
    Task("energy", "scalar", columns=("energy",), transform="asinh", head=SQUARES),
    Task("kind", "classification", columns=("kind",), classes=("metal", "salt", "glass")),
    Task("curve", "curve", columns=("curve",), t_column="t"),
    Task("back", "autoencoder"),
)


def made_model(stage: str = "tanh", tasks: tuple[Task, ...] = TASKS) -> DesignModel:
    """A network with untrained weights but fitted scales: smooth, and different for every composition."""
    torch.manual_seed(3)
    source = KernelMean()
    config = NetworkConfig(
        tasks, composition="mlp", composition_settings={"hidden_dims": [len(source.names), 32, 16]}, latent_stage=stage
    )
    network = Network(config)
    x = torch.from_numpy(source.describe(FORMULAS)[0])
    values = torch.linspace(-2, 5, len(FORMULAS))
    labels = {name: Targets(values, torch.ones(len(values), dtype=torch.bool)) for name in ("gap", "energy")}
    network.fit_scaling(labels, descriptors=x)
    return DesignModel(network, source)


@pytest.fixture(scope="module")
def model() -> DesignModel:
    return made_model()


def gap_of(model: DesignModel, weights: np.ndarray) -> np.ndarray:
    """The prediction of the network for fractions, computed apart from the search."""
    with torch.no_grad():
        x = torch.from_numpy(weights @ model.kernel.matrix).float()
        head = model.network.head("gap")
        latent = Latent(model.network.composition_latents(x))
        return head.predict(head(latent), latent).numpy()


def test_the_gradient_of_the_descriptor_is_the_kernel(model: DesignModel) -> None:
    weights = torch.rand(2, ELEMENTS, dtype=torch.double).softmax(1).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(model.descriptors, weights)
    assert jacobian.dtype == torch.double
    matrix = torch.tensor(model.kernel.matrix, dtype=torch.float32).double().T
    torch.testing.assert_close(jacobian[0, :, 0], matrix)
    assert (jacobian[0, :, 1] == 0).all()


def test_a_value_within_reach_is_met_and_is_that_of_the_composition(model: DesignModel) -> None:
    reached = gap_of(model, fractions_of(FORMULAS))
    target = float(np.quantile(reached, 0.3))
    found = optimize_composition(model, [Objective("gap", "=", target)], settings=CompositionSettings(starts=5))
    np.testing.assert_allclose(found.values[:, 0], target, atol=0.02)
    np.testing.assert_allclose(gap_of(model, found.weights), found.values[:, 0], atol=1e-4)
    assert found.trajectory.shape == (300, 5, 1)
    assert (np.abs(found.initial_values[:, 0] - target) > 0.02).any()  # it did not start there


def test_each_composition_may_have_a_value_of_its_own(model: DesignModel) -> None:
    target = tuple(np.quantile(gap_of(model, fractions_of(FORMULAS)), [0.2, 0.4, 0.6]).tolist())
    found = optimize_composition(model, [Objective("gap", "=", target)], settings=CompositionSettings(starts=3))
    np.testing.assert_allclose(found.values[:, 0], target, atol=0.02)
    with pytest.raises(UsageError, match="3 values for 4 compositions"):
        optimize_composition(model, [Objective("gap", "=", target)], settings=CompositionSettings(starts=4))


@pytest.mark.parametrize(("relation", "sign"), [("least", -1), ("most", 1)])
def test_an_extreme_goes_further_than_the_seeds(model: DesignModel, relation: str, sign: int) -> None:
    seeds = fractions_of(FORMULAS[:4])
    found = optimize_composition(model, [Objective("gap", relation)], seeds=seeds)  # type: ignore[arg-type]
    assert (sign * (found.values[:, 0] - found.initial_values[:, 0]) > 0).all()


def test_a_bound_that_holds_moves_nothing(model: DesignModel) -> None:
    seeds = fractions_of(FORMULAS[:3])
    calm = CompositionSettings(seed_blend=1.0)
    found = optimize_composition(model, [Objective("gap", "<", 1e6)], seeds=seeds, settings=calm)
    np.testing.assert_allclose(found.weights, seeds, atol=1e-5)


def test_class_probabilities_rise(model: DesignModel) -> None:
    seeds = fractions_of(FORMULAS[:4])
    found = optimize_composition(model, [Objective("kind", "class", classes=("salt", "glass"))], seeds=seeds)
    assert (found.values > found.initial_values).all()
    assert (found.values <= 1).all()


def test_a_seed_alone_keeps_its_elements_and_a_blend_lets_others_in(model: DesignModel) -> None:
    seeds = fractions_of(["NaCl", "SiO2"])
    objectives = [Objective("gap", "most")]
    strict = optimize_composition(model, objectives, seeds=seeds, settings=CompositionSettings(seed_blend=1.0))
    assert (strict.weights[seeds == 0] < 1e-4).all()
    open_ = optimize_composition(model, objectives, seeds=seeds)
    assert (open_.weights[seeds == 0] > 1e-3).any()
    assert (open_.losses <= strict.losses + 1e-6).all()


def test_diversity_falls_with_its_scale(model: DesignModel) -> None:
    """The mean number of elements above 1 % at three scales."""
    counts = [
        (
            optimize_composition(
                model, [Objective("gap", "=", 1.0)], settings=CompositionSettings(diversity_scale=scale, starts=8)
            ).weights
            > 0.01
        )
        .sum(axis=1)
        .mean()
        for scale in (1.0, 0.5, 0.0)
    ]
    assert counts[0] > counts[1] >= counts[2]


def test_slow_elements_move_less_and_frozen_ones_not_at_all(model: DesignModel) -> None:
    seeds = fractions_of(["LiFePO4"])
    moved = []
    for scale in (1.0, 0.1):
        found = optimize_composition(
            model,
            [Objective("gap", "most")],
            seeds=seeds,
            constraints=Constraints(element_step_scale=dict.fromkeys(SYMBOLS, scale)),
            settings=CompositionSettings(steps=30, keep_weights=True),
        )
        assert found.weight_trajectory is not None
        first, last = np.log(found.weight_trajectory[[0, -1], 0])
        moved.append(np.ptp(last - first))  # in logits, whatever all of them have in common
    assert moved[1] == pytest.approx(0.1 * moved[0], rel=0.3)  # Adam's steps have one size: the update is scaled
    frozen = Constraints(element_step_scale={"Fe": 0.0})
    found = optimize_composition(model, [Objective("gap", "most")], seeds=seeds, constraints=frozen)
    assert found.weights[0, SYMBOLS.index("Fe")] == pytest.approx(1 / 7, abs=1e-7)


@settings(max_examples=15, deadline=None)
@given(
    most=st.one_of(st.none(), st.integers(2, 5)),
    fixed=st.booleans(),
    frozen=st.booleans(),
    floor=st.sampled_from([0.0, 0.05]),
    whitelist=st.booleans(),
)
def test_constraints_hold_together_in_a_search(
    most: int | None, fixed: bool, frozen: bool, floor: float, whitelist: bool
) -> None:
    if most is not None and most <= fixed + frozen:
        most = fixed + frozen + 1
    constraints = Constraints(
        allowed_elements=["Li", "Fe", "P", "O", "Na", "Mn"] if whitelist else None,
        max_elements=most,
        fixed_amounts={"O": 0.5} if fixed else {},
        element_step_scale={"Li": 0.0} if frozen else {},
        min_nonzero_weight=floor,
    )
    seeds = fractions_of(["LiFePO4", "LiMn2P"])
    found = optimize_composition(
        made_model(),
        [Objective("gap", "=", 2.0), Objective("kind", "class", classes=("salt",))],
        seeds=seeds,
        constraints=constraints,
        settings=CompositionSettings(steps=25),
    ).weights.astype(np.float64)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert not found[:, ~constraints.allowed].any()
    if most is not None:
        assert ((found > 0).sum(axis=1) <= most).all()
    if fixed:
        np.testing.assert_allclose(found[:, SYMBOLS.index("O")], 0.5, atol=1e-6)
    if frozen:
        np.testing.assert_allclose(found[:, SYMBOLS.index("Li")], seeds[:, SYMBOLS.index("Li")], atol=1e-6)
    free = found[:, ~constraints.locked]
    assert (free[free > 0] >= floor - 1e-6).all()


def searched(model: DesignModel, what: str) -> None:
    seeds = fractions_of(FORMULAS[:2])
    if what == "composition":
        optimize_composition(model, [Objective("gap", "=", 1.0)], seeds=seeds, settings=CompositionSettings(steps=3))
    else:
        optimize_latent(model, [Objective("gap", "=", 1.0)], seeds=seeds, settings=LatentSettings(what, steps=3))  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["composition", "latent", "input"])
def test_the_network_is_unchanged(what: str) -> None:
    model = made_model()
    model.network.train()
    model.network.composition_encoder.eval()
    weight = next(model.network.parameters())
    weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    modes = [module.training for module in model.network.modules()]
    searched(model, what)
    assert [module.training for module in model.network.modules()] == modes
    assert not weight.requires_grad
    assert all(one.requires_grad for one in list(model.network.parameters())[1:])
    assert all(one.grad is None for one in model.network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())


def test_the_network_is_unchanged_after_an_error(model: DesignModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model.network.train()
    monkeypatch.setattr(DesignModel, "latents", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        searched(model, "composition")
    assert model.network.training
    assert all(one.requires_grad for one in model.network.parameters())


def test_a_latent_search_returns_three_values_the_last_of_a_composition(model: DesignModel) -> None:
    seeds = fractions_of(FORMULAS[:3])
    found = optimize_latent(model, [Objective("gap", "=", 2.0)], seeds=seeds, settings=LatentSettings(restarts=2))
    assert found.values.shape == found.composition_values.shape == (3, 2, 1)
    np.testing.assert_allclose(found.values, 2.0, atol=0.05)
    np.testing.assert_allclose(found.weights.sum(axis=2), 1, atol=1e-6)
    compositions = found.weights.reshape(-1, ELEMENTS)
    np.testing.assert_allclose(gap_of(model, compositions), found.composition_values.ravel(), atol=1e-4)
    assert (found.residuals > 0).all()
    assert found.trajectory.shape == (3, 2, 200, 1)


def test_alignment_keeps_a_latent_where_descriptors_are(model: DesignModel) -> None:
    """The distance between the value promised in the latent and that after decoding falls with the alignment."""
    seeds = fractions_of(FORMULAS[:6])
    gaps = []
    for alpha in (0.0, 1.0):
        settings = LatentSettings(ae_align_scale=alpha, steps=150)
        found = optimize_latent(model, [Objective("gap", "=", 2.5)], seeds=seeds, settings=settings)
        gaps.append(np.abs(found.values - found.decoded_values).mean())
    assert gaps[1] < gaps[0]


def test_in_the_space_of_descriptors_nothing_is_decoded(model: DesignModel) -> None:
    found = optimize_latent(
        model, [Objective("gap", "=", 2.0)], seeds=fractions_of(FORMULAS[:2]), settings=LatentSettings("input")
    )
    np.testing.assert_allclose(found.values, found.decoded_values, atol=1e-5)
    np.testing.assert_allclose(found.values, 2.0, atol=0.05)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda model: optimize_composition(model, []), "no objective: give at least one"),
        (lambda model: optimize_composition(model, [Objective.parse("gpa=1")]), "did you mean 'gap'"),
        (
            lambda model: optimize_composition(model, [Objective.parse("gap=1"), Objective.parse("gap<2")]),
            "gap has two objectives",
        ),
        (lambda model: optimize_composition(model, [Objective.parse("kind=metals")]), "did you mean 'metal'"),
        (lambda model: optimize_composition(model, [Objective.parse("kind<1")]), "kind is a class"),
        (lambda model: optimize_composition(model, [Objective.parse("gap=metal")]), "gap is a number"),
        (lambda model: optimize_composition(model, [Objective.parse("curve=1")]), "must be numbers or classes"),
        (
            lambda model: optimize_composition(model, [Objective.parse("gap=1")], seeds=np.zeros((1, ELEMENTS))),
            "every row",
        ),
        (
            lambda model: optimize_composition(model, [Objective.parse("gap=1")], seeds=np.ones((1, 4))),
            "amounts of 103",
        ),
        (lambda model: CompositionSettings(seed_blend=2), "seed_blend must be from 0 to 1"),
        (lambda model: LatentSettings(ae_align_scale=-1), "ae_align_scale must be from 0 to 1"),
        (lambda model: LatentSettings("laten"), "did you mean 'latent'"),  # type: ignore[arg-type]
        (lambda model: Objective.parse("gap is 1"), "is not an objective"),
        (lambda model: Objective.parse("gap<wide"), "is not a number"),
        (lambda model: DesignModel(model.network, KernelMean(form="nd")), "reads .* numbers"),
    ],
)
def test_invalid_input_is_refused(model: DesignModel, run: Callable[[DesignModel], object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        run(model)


def test_a_latent_search_needs_a_decoder_and_a_bounded_latent() -> None:
    seeds = fractions_of(["NaCl"])
    with pytest.raises(UsageError, match="needs an autoencoder"):
        optimize_latent(made_model(tasks=TASKS[:3]), [Objective("gap", "most")], seeds=seeds)
    with pytest.raises(UsageError, match="bounded latent"):
        optimize_latent(made_model("none"), [Objective("gap", "most")], seeds=seeds)


def test_objectives_are_read() -> None:
    assert Objective.parse("band_gap=1.4") == Objective("band_gap", "=", 1.4)
    assert Objective.parse("formation_energy < -0.5") == Objective("formation_energy", "<", -0.5)
    assert Objective.parse("gap=max") == Objective("gap", "most")
    assert Objective.parse("kind=metal|salt") == Objective("kind", "class", classes=("metal", "salt"))
