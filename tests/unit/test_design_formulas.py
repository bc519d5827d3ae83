"""Compositions as formulas: nearest small integers, rounding error, charges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystrata.compositions.keys import group_key
from crystrata.compositions.keys import weights as fractions_of
from crystrata.design.formulas import (
    Composition,
    charges_of,
    composition_text,
    formula_of,
    integer_formula,
    neutral,
    neutral_formula,
    neutral_formulas,
    neutral_neighbours,
)
from crystrata.elements import SYMBOLS
from crystrata.errors import UsageError


@given(
    st.dictionaries(st.sampled_from(SYMBOLS), st.integers(1, 6), min_size=1, max_size=4).filter(
        lambda amounts: sum(amounts.values()) <= 20
    )
)
def test_a_formula_comes_back_from_its_fractions(amounts: dict[str, int]) -> None:
    formula = "".join(f"{symbol}{count}" for symbol, count in amounts.items())
    found, error = integer_formula(fractions_of([formula])[0])
    if error < 1e-9:
        assert found == group_key(formula)
    else:  # a smaller formula was near enough
        assert error < 0.01
        assert np.abs(fractions_of([found]) - fractions_of([formula])).max() == pytest.approx(error)


def test_rounding_reports_its_error() -> None:
    weights = np.zeros(len(SYMBOLS))
    weights[[SYMBOLS.index("Na"), SYMBOLS.index("Cl")]] = 0.53, 0.47
    assert integer_formula(weights, max_atoms=4) == ("ClNa", pytest.approx(0.03))
    formula, error = integer_formula(weights)
    assert (formula, round(error, 4)) == ("Cl6Na7", 0.0085)
    assert error < 0.01
    for wrong in (np.zeros(3), weights):
        with pytest.raises(UsageError, match="at least one atom"):
            integer_formula(wrong, 0 if wrong.any() else 20)


@pytest.mark.parametrize(
    ("formula", "charges"),
    [
        ("ClNa", {"Na": 1, "Cl": -1}),
        ("Fe3O4", {"Fe": 8 / 3, "O": -2}),
        ("FeLiO4P", {"Li": 1, "Fe": 2, "P": 5, "O": -2}),
        ("AlNi3", {}),
        ("Na2Cl", None),
        ("H2O4S", {"H": 1, "S": 6, "O": -2}),
        ("OS5Sc", None),  # no sulphur of -0.2
        ("I4Rb6S9", None),
    ],
)
def test_charges(formula: str, charges: dict[str, float] | None) -> None:
    found = charges_of(formula)
    assert found == (None if charges is None else pytest.approx(charges))


def test_the_neutral_formulas_of_some_elements() -> None:
    found = {tuple(row.tolist()) for row in neutral_formulas(["Fe", "O"], 9)}
    assert {(1, 1), (2, 3), (3, 4), (4, 5)} <= found  # mixed iron
    assert found.isdisjoint({(2, 1), (1, 2), (2, 2)})
    assert [tuple(row) for row in neutral_formulas(["Na", "Cl"], 6)] == [(1, 1)]
    assert neutral(["Na", "Cl"], np.array([[1, 1], [2, 1]])).tolist() == [True, False]
    assert len(neutral_formulas(["Na", "K"], 6)) == 0


def test_the_nearest_neutral_formula_is_taken() -> None:
    composition = Composition.of(0.9 * fractions_of(["Li3S2"])[0] + 0.1 * fractions_of(["Li"])[0])
    assert (composition.formula, composition.charges) == ("Li2S", {"Li": 1, "S": -2})
    assert composition.rounding_error == pytest.approx(abs(0.9 * 0.6 + 0.1 - 2 / 3))
    assert neutral_formula(fractions_of(["AlNi3"])[0]) is None
    assert Composition.of(fractions_of(["AlNi3"])[0]).formula == "AlNi3"
    assert Composition.of(fractions_of(["MgB2"])[0]).charges is None


def test_a_composition_may_be_written_as_another_formula_of_its_elements() -> None:
    weights = fractions_of(["Fe2O3"])[0]
    neighbours = neutral_neighbours(weights, 7)
    assert {formula_of(row) for row in neighbours} == {"FeO", "Fe2O3", "Fe3O4"}
    np.testing.assert_allclose(neighbours.sum(axis=1), 1)
    composition = Composition.written_as(weights, fractions_of(["FeO"])[0])
    assert (composition.formula, composition.rounding_error, composition.charges) == (
        "FeO",
        pytest.approx(0.1),
        {"Fe": 2, "O": -2},
    )


def test_a_composition_is_written_largest_first() -> None:
    composition = Composition.of(fractions_of(["LiFePO4"])[0])
    text = composition_text(composition.weights)
    assert text.startswith("O0.571 ")
    assert set(text.split()[1:]) == {"Li0.143", "Fe0.143", "P0.143"}
    assert (composition.formula, composition.rounding_error) == ("FeLiO4P", pytest.approx(0, abs=1e-9))
