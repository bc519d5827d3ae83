"""Candidate crystals: the structures of known compounds with other elements in them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crystrata.design.substitution import candidates, strained
from crystrata.errors import UsageError
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal

ROCK_SALT = [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]


def binary(name: str, metal: int, other: int, lattice: float, *, caesium: bool = False) -> Crystal:
    cell = lattice * (np.eye(3) if caesium else np.array(ROCK_SALT))
    return Crystal.create(name, cell, [metal, other], [[0, 0, 0], [0.5, 0.5, 0.5]])


CRYSTALS = [
    binary("salt", 11, 17, 5.64),
    binary("lime", 20, 8, 4.81),
    binary("caesium", 55, 17, 4.12, caesium=True),
    Crystal.create("fluorite", 5.46 * np.array(ROCK_SALT), [20, 9, 9], [[0, 0, 0], [0.25] * 3, [0.75] * 3]),
]
TABLE = CrystalTable(
    "made",
    "0" * 64,
    pd.DataFrame(
        {"formula": [one.formula for one in CRYSTALS]}, index=pd.Index([one.id for one in CRYSTALS], name="id")
    ),
    lambda: iter(CRYSTALS),
)


def kind(crystal: Crystal) -> str:
    return f"{len(crystal)} {np.ptp(crystal.lattice) / np.abs(crystal.lattice).max():.3f} {crystal.lattice[0, 0] > 0}"


def test_the_most_similar_compound_of_each_structure_gives_its_own() -> None:
    found = candidates("KCl", TABLE, kind)
    assert [one.prototype for one in found] == ["salt", "caesium"]  # lime has the structure of salt
    salt = found[0]
    assert salt.crystal.id == "KCl-as-salt"
    assert salt.crystal.numbers.tolist() == [19, 17]  # potassium for sodium, not for chlorine
    np.testing.assert_array_equal(salt.crystal.frac, CRYSTALS[0].frac)
    assert not salt.known
    assert salt.difference < found[1].difference or found[1].prototype_formula == "ClCs"


def test_a_known_formula_comes_first() -> None:
    found = candidates("CaF2", TABLE, kind)
    assert [(one.prototype, one.known, one.difference) for one in found] == [("fluorite", True, 0.0)]
    np.testing.assert_array_equal(found[0].crystal.lattice, CRYSTALS[3].lattice)


def test_roles_go_by_amount_and_cells_by_volume() -> None:
    usual = {"BaBr2": 30.0, "CaF2": 15.0}
    (found,) = candidates("BaBr2", TABLE, kind, volume_per_atom=usual.__getitem__)
    assert found.crystal.numbers.tolist() == [56, 35, 35]
    assert found.crystal.volume_per_atom == pytest.approx(2 * CRYSTALS[3].volume_per_atom)


def test_a_formula_without_prototype_is_refused() -> None:
    with pytest.raises(UsageError, match="no known crystal has the stoichiometry of Fe2O3"):
        candidates("Fe2O3", TABLE, kind)
    with pytest.raises(UsageError, match="7 elements: structures can be found for 6"):
        candidates("LiNaKRbCsFCl", TABLE, kind)


def test_strained_lengths() -> None:
    small, same = strained(CRYSTALS[0], (0.9, 1.0))
    assert small.volume_per_atom == pytest.approx(0.729 * same.volume_per_atom)
    assert same.volume_per_atom == CRYSTALS[0].volume_per_atom
