"""Crystals to try things on: awkward and ordinary ones of the JARVIS file where there is one, else demo crystals."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np

from crystrata.sources.demo import open_demo
from crystrata.sources.jarvis import open_data_file
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal

VARIABLE = "CRYSTRATA_JARVIS"


def source_in_words() -> str:
    """Return where the crystals come from."""
    named = os.environ.get(VARIABLE)
    return f"crystals of {Path(named).name}" if named else "demo crystals"


@cache
def demo() -> CrystalTable:
    """Return the demo crystals, made once."""
    return open_demo()


def sample(quick: bool, count: int) -> tuple[Crystal, ...]:
    """Return so many crystals of at most 60 atoms; eight of at most 12 where it must be quick."""
    return real_crystals(40, 12)[::5] if quick else real_crystals(count, 60)


@cache
def real_crystals(count: int, most_atoms: int = 60) -> tuple[Crystal, ...]:
    """Draw crystals: half of them awkward, the others by chance from all over the data.

    Awkward are single atoms, the most elongated, most skewed, emptiest, densest and largest cells.

    Args:
        count: How many.
        most_atoms: Larger cells are passed over.
    """
    named = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory() as scratch:
        table = open_data_file(Path(named), cache_dir=Path(scratch)) if named else demo()
        crystals = [crystal for crystal in table.crystals() if len(crystal) <= most_atoms]
    count = min(count, len(crystals))
    chosen = dict.fromkeys(_awkward(crystals, count // 2))
    drawn = np.random.default_rng(0).permutation(len(crystals)).tolist()
    rows = [*chosen, *(row for row in drawn if row not in chosen)][:count]
    return tuple(crystals[row] for row in sorted(rows))


def _awkward(crystals: list[Crystal], count: int) -> Iterable[int]:
    """Return rows of the most extreme crystals by each measure, about `count` in all."""
    lattice = np.stack([crystal.lattice for crystal in crystals])
    atoms = np.array([len(crystal) for crystal in crystals])
    lengths = np.linalg.norm(lattice, axis=2)
    volume = np.abs(np.linalg.det(lattice))
    measures = (
        -atoms,
        -lengths.max(1) / lengths.min(1),
        volume / lengths.prod(1),  # 1 for right angles
        -volume / atoms,
        volume / atoms,
        atoms,
    )
    orders = [np.argsort(measure, kind="stable")[: -(-count // len(measures))] for measure in measures]
    return (int(row) for order in orders for row in order)
