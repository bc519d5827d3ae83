"""Compositions as rows of a matrix: fractions of flat atoms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from known_crystals import CRYSTALS, LONE_ATOM, SUPERCELLS, batch_of

from crystrata.compositions.keys import atomic_fractions
from crystrata.elements import MAX_ATOMIC_NUMBER, atomic_number
from crystrata.networks.latent import atomic_fractions as fractions_of_batch
from drills.rewritings import supercell

cells = st.lists(st.lists(st.integers(1, MAX_ATOMIC_NUMBER), min_size=1, max_size=9), min_size=1, max_size=6)


def flat(numbers: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Atomic numbers of all crystals one after the other, and the first atom of each."""
    return np.array([z for cell in numbers for z in cell], dtype=np.uint8), np.cumsum([0, *map(len, numbers)])


def test_silica_by_hand() -> None:
    found = atomic_fractions(*flat([[14, 8, 8], [103], [1]]))
    assert found.shape == (3, MAX_ATOMIC_NUMBER) == (3, 103)
    assert found[0, atomic_number("Si") - 1] == pytest.approx(1 / 3)
    assert found[0, atomic_number("O") - 1] == pytest.approx(2 / 3)
    assert found[1, 102] == found[2, 0] == 1.0  # first and last element of the table


@given(cells)
def test_fractions_add_up_to_one(numbers: list[list[int]]) -> None:
    found = atomic_fractions(*flat(numbers))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-6)
    for row, cell in zip(found, numbers, strict=True):
        for number in set(cell):
            assert row[number - 1] == pytest.approx(cell.count(number) / len(cell))
        assert np.count_nonzero(row) == len(set(cell))


def test_the_network_sees_the_same_fractions() -> None:
    crystals = [*CRYSTALS, LONE_ATOM]
    found = fractions_of_batch(batch_of(crystals))
    expected = atomic_fractions(*flat([crystal.numbers.tolist() for crystal in crystals]))
    torch.testing.assert_close(found, torch.from_numpy(expected))


def test_a_supercell_has_the_composition_of_its_cell() -> None:
    one = fractions_of_batch(batch_of(CRYSTALS))
    for rows in SUPERCELLS.values():
        torch.testing.assert_close(fractions_of_batch(batch_of([supercell(one, rows) for one in CRYSTALS])), one)
