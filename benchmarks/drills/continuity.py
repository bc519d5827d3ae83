"""A small change of a crystal is a small change of every output: moves, rounded files, neighbours that come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from crystrata.presets import ENCODERS
from crystrata.structures.crystal import Crystal
from drills.drill import Drill, Tally
from drills.exact_graphs import find_neighbourhoods
from drills.invariances import graphs_in_both
from drills.probe import SETTINGS, deviations, mixed, probe
from drills.real_crystals import sample, source_in_words

NUDGE = 1e-6  # [A]
NUMBERS, TENSORS = 100.0, 1000.0
"""Steepest slopes allowed, relative, per angstrom: a move of 1e-6 A then changes a number by less than 1e-4.

The components that symmetry makes zero answer to a move at first order, and nothing has taught these networks how much:
370 per angstrom is seen in a fluorite, the same from 1e-7 to 0.1 A.
"""

FLOOR = {torch.float32: 2e-5, torch.float64: 1e-9}
"""What rounding alone may change."""


def try_small_changes(quick: bool, scratch: Path, tally: Tally) -> None:
    """Count each crystal in each small change; it holds where no output of any encoder moves more than its share."""
    crystals = sample(quick, 150)
    rng = np.random.default_rng(0)
    nudged = [moved(crystal, rng, NUDGE) for crystal in crystals]
    try_pairs(crystals, nudged, [NUDGE] * len(crystals), "moved by 1e-6 A", tally)
    rounded = [to_digits(crystal, 5) for crystal in crystals]
    moves = [largest_move(*pair) for pair in zip(crystals, rounded, strict=True)]
    try_pairs(crystals, rounded, moves, "rounded to 5 digits", tally)
    before, after = crossings([one for one in crystals if 1 < len(one) <= 12][:60] * 3, rng)
    tally.check(len(before) > 2, f"only {len(before)} neighbours came or went")
    try_pairs(before, after, [0.0] * len(before), "as a neighbour comes or goes", tally, exact_only=True)


def try_pairs(
    before: Sequence[Crystal],
    after: Sequence[Crystal],
    moves: Sequence[float],
    words: str,
    tally: Tally,
    *,
    exact_only: bool = False,
) -> None:
    """Check that no output changes by more than the steepest slope allows.

    Args:
        before: Crystals.
        after: The same, a little changed.
        moves: How far an atom is moved at most, of each [A].
        words: What the change is.
        tally: Where it is counted.
        exact_only: Whether float32 can show nothing.
    """
    graphs = [graphs_in_both(group) for group in (before, after)]
    worst: list[tuple[float, str]] = [(0.0, "")] * len(before)
    rng = np.random.default_rng(0)
    for encoder in ENCODERS:
        for dtype, floor in FLOOR.items():
            if exact_only and dtype != torch.float64:
                continue
            one = probe(encoder, dtype)
            outputs, found = (one.outputs(both[dtype], mixed(both[dtype], rng)) for both in graphs)
            for name, values in deviations(found, outputs, one.spreads).items():
                for row, value in enumerate(values.tolist()):
                    excess = value / (floor + steepest(name) * moves[row])
                    worst[row] = max(worst[row], (excess, f"{one.words}, {name}: {value:.2g}"))
    for crystal, (excess, where) in zip(before, worst, strict=True):
        tally.check(excess < 1, f"{crystal.id} {words}: {where}")


def steepest(output: str) -> float:
    """Return the steepest slope allowed to an output of a probe, relative, per angstrom."""
    return TENSORS if output.endswith("tensor") else NUMBERS


def moved(crystal: Crystal, rng: np.random.Generator, length: float) -> Crystal:
    """Return the crystal with one atom moved by a length [A]."""
    way = rng.normal(size=3)
    frac = crystal.frac.copy()
    frac[rng.integers(len(crystal))] += length * way / np.linalg.norm(way) @ np.linalg.inv(crystal.lattice)
    return replace(crystal, frac=frac)


def to_digits(crystal: Crystal, digits: int) -> Crystal:
    """Return the crystal as a file of so many digits after the point has it."""
    return replace(crystal, lattice=crystal.lattice.round(digits), frac=crystal.frac.round(digits))


def largest_move(one: Crystal, other: Crystal) -> float:
    """Return how far two neighbours move against one another at most [A], counting the cells around."""
    atoms = np.linalg.norm((other.frac - one.frac) @ one.lattice, axis=1).max()
    strain = np.linalg.norm(np.linalg.inv(one.lattice) @ other.lattice - np.eye(3), ord=2)
    return float(2 * atoms + strain * SETTINGS.cutoff)


def crossings(crystals: Sequence[Crystal], rng: np.random.Generator) -> tuple[list[Crystal], list[Crystal]]:
    """Return crystals just before and just after an edge comes or goes while their atoms move, 1e-10 A apart."""
    before, after = [], []
    for crystal in crystals:
        way = rng.normal(size=(len(crystal), 3)) @ np.linalg.inv(crystal.lattice)

        def at(length: float, crystal: Crystal = crystal, way: np.ndarray = way) -> Crystal:
            return replace(crystal, frac=crystal.frac + length * way)

        start, stop = 0.01, 0.1
        edges = _edges(at(start))
        if _edges(at(stop)) == edges:
            continue
        while stop - start > 1e-11:
            middle = (start + stop) / 2
            start, stop = (middle, stop) if _edges(at(middle)) == edges else (start, middle)
        before.append(at(start))
        after.append(at(stop))
    return before, after


def _edges(crystal: Crystal) -> list[int]:
    return [int(count) for count in find_neighbourhoods(crystal, SETTINGS).counts]


DRILLS = (
    Drill(
        "continuity",
        "a move of 1e-6 A changes less than 1e-4, five digits in a file no more than the same slope allows, and a "
        f"neighbour that comes or goes nothing; {source_in_words()}",
        try_small_changes,
    ),
)
