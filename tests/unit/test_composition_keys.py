"""Composition keys: one string for one composition, however it was written; fractions; groups of splits."""

from __future__ import annotations

import math
import os
import random
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystrata.compositions.keys import (
    composition_key,
    composition_keys,
    formula_amounts,
    group_key,
    known_weights,
    weights,
)
from crystrata.elements import SYMBOLS, atomic_number
from crystrata.errors import InputError
from crystrata.structures.crystal import reduced_formula

whole = st.dictionaries(st.sampled_from(SYMBOLS), st.integers(1, 999), min_size=1, max_size=8)
broken = st.dictionaries(
    st.sampled_from(SYMBOLS),
    st.floats(1e-6, 1e6, allow_nan=False).map(lambda x: float(f"{x:.6g}")),
    min_size=1,
    max_size=8,
)
formulas = st.recursive(
    st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(["", "2", "3", "0.5", "1.25", "12"])).map("".join),
    lambda inner: st.tuples(
        st.sampled_from(["()", "[]", "{}"]), st.lists(inner, min_size=1, max_size=3), st.sampled_from(["", "2", "1.5"])
    ).map(lambda part: part[0][0] + "".join(part[1]) + part[0][1] + part[2]),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("GaAs", "AsGa"),
        ("Fe4O6", "Fe4O6"),
        ("Ca3[Fe(CN)6]2", "C12Ca3Fe2N12"),
        ("Li.5CoO2", "CoLi0.5O2"),
        ("Fe1.0 O1.50", "FeO1.5"),
        (" Fe2 O3\n", "Fe2O3"),
        (np.str_("O3Fe2"), "Fe2O3"),
        ("Fe₂O₃", "Fe2O3"),
        ("Ｆｅ２Ｏ３", "Fe2O3"),
        ("NaN", "NNa"),
        ("(Fe)0O", "O"),
        ("CH3CH2OH", "C2H6O"),
        ({"O": 3, "Fe": 2.0}, "Fe2O3"),
        ({"Fe": 2, "O": None, "Cl": -1, "Na": math.nan, "K": 0}, "Fe2"),
        ({"Li": 0.1 + 0.2, "O": "2"}, "Li0.3O2"),
        ({"H": 1e15, "O": 1e-7}, "H1000000000000000O0.0000001"),
    ],
)
def test_one_key_however_written(written: object, key: str) -> None:
    assert composition_key(written) == key
    assert composition_key(key) == key


NO_FORMULAS = (
    "S01 sample-17 Fe3+ Fe-2 Wat D2O T2 Rf2O3 Xx2 fe2o3 2Fe Fe. Fe1e3 Fe)2( (Fe] ((Fe (Fe ) () 氧2 Fe٣ H0 "
    "CuSO4·5H2O".split()
)


@pytest.mark.parametrize("text", [*NO_FORMULAS, "", " ", "H" + "9" * 400, "(" * 5000, "Fe\0"])
def test_what_is_no_formula_keeps_its_text(text: str) -> None:
    assert composition_key(text) == text
    assert group_key(text) == text
    with pytest.raises(InputError, match="formula"):
        weights(["Fe", text])


@pytest.mark.parametrize("value", [None, math.nan, np.float64("nan"), pd.NA, pd.NaT])
def test_a_missing_value_has_an_empty_key(value: object) -> None:
    assert composition_key(value) == ""


@pytest.mark.parametrize("value", [17, 1.5, np.float64(3.0), ["Fe"], {}, {"Fe": "many"}, {"Xx": 1}, {"Fe": math.inf}])
def test_other_things_keep_their_text(value: object) -> None:
    assert composition_key(value) == str(value)


@pytest.mark.parametrize(
    ("formula", "complaint"),
    [
        ("D2O", "'D' is an isotope; write H"),
        ("Rf2", "unknown element 'Rf'.*H to Lr"),
        ("WatO", "cannot be read"),
        ("Fe0", "no atom"),
        ("H" + "9" * 400, "too large"),
    ],
)
def test_the_error_says_why(formula: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        formula_amounts(formula)


@given(st.one_of(whole, broken), st.randoms(use_true_random=False))
def test_order_does_not_matter(amounts: dict[str, float], shuffle: random.Random) -> None:
    key = composition_key(amounts)
    items = list(amounts.items())
    shuffle.shuffle(items)
    assert composition_key(dict(items)) == key
    assert composition_key("".join(f"{symbol}{amount:f}" for symbol, amount in items)) == composition_key(
        {symbol: float(f"{amount:f}") for symbol, amount in items}
    )
    assert composition_key(key) == key
    assert formula_amounts(key) == pytest.approx(amounts, rel=1e-11)


@given(formulas)
def test_agrees_with_pymatgen(formula: str) -> None:
    from pymatgen.core import Composition

    theirs = Composition(formula)
    assert formula_amounts(formula) == pytest.approx(dict(theirs.get_el_amt_dict()), rel=1e-12)
    key = composition_key(formula)
    assert composition_key(theirs) == key
    row = weights([key])[0]
    assert {s: row[atomic_number(s) - 1] for s in formula_amounts(key)} == pytest.approx(
        {element.symbol: theirs.get_atomic_fraction(element) for element in theirs}, rel=1e-9
    )


def test_charges_of_pymatgen_species_do_not_count() -> None:
    from pymatgen.core import Composition

    assert composition_key(Composition({"Fe2+": 1, "Fe3+": 2, "O2-": 4})) == "Fe3O4"


@given(st.text(max_size=30))
def test_any_text_has_a_key_that_is_its_own(text: str) -> None:
    key = composition_key(text)
    assert composition_key(key) == key
    assert group_key(group_key(key)) == group_key(key)
    assert known_weights([key])[1][0] == known_weights([text])[1][0]


@given(whole, st.integers(1, 50))
def test_groups_are_those_of_crystals(counts: dict[str, int], times: int) -> None:
    numbers = np.repeat([atomic_number(symbol) for symbol in counts], [min(n, 60) for n in counts.values()])
    few = {symbol: min(n, 60) for symbol, n in counts.items()}
    assert group_key(composition_key(few)) == reduced_formula(numbers)
    total = sum(few.values())
    for factor in (times, times / 7, 1 / total, 0.01):
        assert group_key(composition_key({s: n * factor for s, n in few.items()})) == reduced_formula(numbers)


def test_dopants_make_a_group_of_their_own() -> None:
    assert group_key("Li0.0001CoO2") == "Co10000LiO20000"
    assert group_key("Li0.5CoO2") == group_key("LiCo2O4") == "Co2LiO4"
    assert group_key("CoO2") != group_key("Li0.0001CoO2")
    assert group_key("H1000000000000000000000O2") == "H500000000000000000000O"


@given(st.one_of(whole, broken))
def test_fractions_add_up_to_one(amounts: dict[str, float]) -> None:
    row = weights([composition_key(amounts)])
    assert row.shape == (1, 103)
    assert row.sum() == pytest.approx(1.0, abs=1e-12)
    for symbol, amount in amounts.items():
        assert row[0, SYMBOLS.index(symbol)] == pytest.approx(amount / sum(amounts.values()), rel=1e-9)


def test_huge_amounts_do_not_overflow() -> None:
    huge = composition_key({"Fe": 1.5e308, "O": 1.5e308})
    np.testing.assert_allclose(weights([huge])[0, [25, 7]], 0.5)


def test_known_rows_are_told_from_others() -> None:
    table, valid = known_weights(["Fe2O3", "sample", "D2O", "Ne"])
    assert valid.tolist() == [True, False, False, True]
    assert table.sum(axis=1).tolist() == [1.0, 0.0, 0.0, 1.0]
    assert known_weights([])[0].shape == weights([]).shape == (0, 103)


@pytest.mark.skipif("CRYSTRATA_JARVIS" not in os.environ, reason="CRYSTRATA_JARVIS names no JARVIS parquet file")
def test_all_jarvis_formulas_quickly() -> None:
    frame = pd.read_parquet(os.environ["CRYSTRATA_JARVIS"], columns=["formula", "atomic_numbers"])
    started = time.process_time()
    keys = composition_keys(frame["formula"])
    groups = [group_key(key) for key in keys]
    table, valid = known_weights(keys)
    assert time.process_time() - started < 10  # 1 s was seen
    assert valid.all()
    some = np.random.default_rng(0).choice(len(frame), 2000, replace=False)
    for row in some:
        numbers = frame["atomic_numbers"].iloc[row]
        assert groups[row] == reduced_formula(numbers)
        np.testing.assert_allclose(table[row], np.bincount(numbers - 1, minlength=103) / len(numbers), atol=1e-12)
