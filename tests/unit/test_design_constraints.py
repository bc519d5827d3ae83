"""Constraints on compositions: contradictions are refused, and every other combination is satisfied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crystrata.design.constraints import ELEMENTS, Constraints
from crystrata.design.simplex import LAST_TEMPERATURE, Simplex, soft_k_hot, temperature
from crystrata.elements import SYMBOLS
from crystrata.errors import UsageError

POOL = ["Li", "O", "Fe", "P", "Si", "Na", "Cl", "Ti"]


@pytest.mark.parametrize(
    ("constraints", "words"),
    [
        ({"allowed_elements": ["Xx"]}, "allowed_elements: unknown element 'Xx'"),
        ({"allowed_elements": []}, "allowed_elements is empty"),
        ({"fixed_amounts": {"Sii": 0.2}}, "fixed_amounts: unknown element 'Sii'; did you mean 'Si'"),
        ({"fixed_amounts": {"Li": 1.0}}, "above 0 and below 1"),
        ({"fixed_amounts": {"Li": 0.6, "O": 0.4}}, "add up to 1"),
        ({"element_step_scale": {"Li": 1.5}}, "from 0 to 1"),
        ({"max_elements": 0}, "from 1 to 103"),
        ({"max_elements": 3, "allowed_elements": ["Li", "O"]}, "more than the 2 allowed"),
        ({"max_elements": 1, "fixed_amounts": {"Li": 0.5}}, "leaves no element beside the 1"),
        ({"fixed_amounts": {"Li": 0.5}, "allowed_elements": ["O", "Fe"]}, "Li is fixed or frozen, but not among"),
        ({"fixed_amounts": {"Li": 0.5}, "element_step_scale": {"Li": 0}}, "give one of them"),
        ({"min_nonzero_weight": 0.4, "max_elements": 3}, "above 1/3"),
        ({"min_nonzero_weight": 0.2, "fixed_amounts": {"Li": 0.1}}, "Li is below min_nonzero_weight"),
        ({"min_nonzero_weight": 0.5, "fixed_amounts": {"Li": 0.6}}, "above what fixed_amounts leave"),
        ({"min_nonzero_weight": 1.0}, "from 0 to below 1"),
        ({"allowed_elements": ["Li"], "fixed_amounts": {"Li": 0.5}}, "nothing is left to optimise"),
    ],
)
def test_contradictions_are_refused_with_the_reason(constraints: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Constraints(**constraints)


def test_freezing_needs_a_seed_that_leaves_something() -> None:
    frozen = Constraints(element_step_scale={"Li": 0, "O": 0}, min_nonzero_weight=0.1)
    with pytest.raises(UsageError, match="give seeds"):
        frozen.locked_amounts(None, 2)
    seeds = np.zeros((2, ELEMENTS))
    seeds[:, [SYMBOLS.index("Li"), SYMBOLS.index("O"), SYMBOLS.index("Fe")]] = [[0.5, 0.3, 0.2], [0.5, 0.5, 0.0]]
    with pytest.raises(UsageError, match="seed 2: fixed and frozen elements leave 0"):
        frozen.locked_amounts(seeds, 2)
    assert frozen.locked_amounts(seeds[:1], 1).sum() == pytest.approx(0.8)


@st.composite
def allowed_sets(draw: st.DrawFn) -> tuple[Constraints, np.ndarray, int]:
    """Any valid subset of the constraints, seeds, and a random seed for logits."""
    given: dict[str, Any] = {}
    pool = POOL
    if draw(st.booleans()):
        pool = draw(st.lists(st.sampled_from(POOL), min_size=3, unique=True))
        given["allowed_elements"] = pool
    places = [SYMBOLS.index(symbol) for symbol in pool]
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    seeds = np.zeros((3, ELEMENTS))
    seeds[:, places] = rng.dirichlet(np.ones(len(places)), 3)
    locked = draw(st.lists(st.sampled_from(pool), max_size=2, unique=True)) if draw(st.booleans()) else []
    given["fixed_amounts"] = dict.fromkeys(locked[:1], 0.15)
    given["element_step_scale"] = dict.fromkeys(locked[1:], 0.0)
    if draw(st.booleans()):
        most = ELEMENTS if "allowed_elements" not in given else len(pool)
        given["max_elements"] = draw(st.integers(len(locked) + 1, min(most, len(locked) + 4)))
    if draw(st.booleans()):
        given["min_nonzero_weight"] = draw(st.floats(0.001, 0.12))
        for symbol in locked[1:]:  # frozen amounts that the floor allows
            seeds[:, SYMBOLS.index(symbol)] = 0.2
        seeds /= seeds.sum(axis=1, keepdims=True)
        seeds[:, [SYMBOLS.index(symbol) for symbol in locked[1:]]] = 0.2
    return Constraints(**given), seeds, draw(st.integers(0, 10_000))


@settings(max_examples=150, deadline=None)
@given(allowed_sets())
def test_every_subset_of_constraints_is_satisfied_exactly(drawn: tuple[Constraints, np.ndarray, int]) -> None:
    constraints, seeds, seed = drawn
    amounts = constraints.locked_amounts(seeds, 3)
    simplex = Simplex(constraints, amounts, torch.device("cpu"))
    logits = 4 * torch.randn(3, ELEMENTS, generator=torch.Generator().manual_seed(seed))
    weights = simplex.final(logits).double().numpy()
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert not weights[:, ~constraints.allowed].any()
    np.testing.assert_allclose(weights[:, constraints.locked], amounts[:, constraints.locked], atol=1e-7)
    if constraints.max_elements is not None:
        assert ((weights > 0).sum(axis=1) <= constraints.max_elements).all()
    free = weights[:, ~constraints.locked]
    assert (free[free > 0] >= constraints.min_nonzero_weight - 1e-6).all()
    soft = simplex.compositions(logits, 1.0)
    np.testing.assert_allclose(soft.sum(1).numpy(), 1, atol=1e-5)
    assert not soft[:, torch.as_tensor(~constraints.allowed)].any()


def test_as_many_elements_as_exist_is_no_constraint() -> None:
    logits = torch.randn(4, ELEMENTS, generator=torch.Generator().manual_seed(0))
    none, all_of_them = (
        Simplex(Constraints(max_elements=most), np.zeros((4, ELEMENTS)), torch.device("cpu"))
        for most in (None, ELEMENTS)
    )
    assert torch.equal(none.compositions(logits, 0.5), all_of_them.compositions(logits, 0.5))
    assert torch.equal(none.final(logits), all_of_them.final(logits))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_soft_choice_hardens_to_the_highest(count: int) -> None:
    logits = torch.arange(20.0)[None, :] * torch.tensor([[1.0], [-1.0]])
    hard = soft_k_hot(logits, count, LAST_TEMPERATURE)
    for row, chosen in zip(hard, (range(20 - count, 20), range(count)), strict=True):
        assert (row > 0.5).nonzero().flatten().tolist() == list(chosen)
        assert row.sum().item() == pytest.approx(count, abs=1e-4)
    soft = soft_k_hot(logits, count, 25.0)
    assert soft.sum(1).tolist() == pytest.approx([count] * 2, abs=1e-4)  # the whole count is shared out
    assert (soft > 0).all()


def test_entries_chosen_in_advance_count() -> None:
    chosen = torch.zeros(6, dtype=torch.bool)
    chosen[0] = True
    mask = soft_k_hot(torch.arange(6.0)[None, :], 3, LAST_TEMPERATURE, chosen)
    np.testing.assert_allclose(mask.numpy(), [[1, 0, 0, 0, 1, 1]], atol=1e-4)


def test_the_temperature_falls() -> None:
    assert temperature(0, 0.5) == pytest.approx(5)
    assert temperature(0, 0) == pytest.approx(1)
    curve = [temperature(u, 1.0) for u in np.linspace(0, 1, 9)]
    assert curve[0] == pytest.approx(25)
    assert curve[-1] == pytest.approx(LAST_TEMPERATURE)
    assert (np.diff(curve) < 0).all()
