"""Any chain of rewritings, in any company, and any small move: drawn at random over real crystals."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crystrata.presets import ENCODERS
from crystrata.structures.crystal import Crystal
from drills.continuity import NUDGE, moved, steepest
from drills.invariances import TOLERANCES, graphs_in_both, rewriting_deviations
from drills.probe import deviations, mixed, probe
from drills.real_crystals import real_crystals
from drills.rewritings import REWRITINGS, Rewritten, primitive

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def crystals(draw: st.DrawFn, least: int = 1) -> list[Crystal]:
    """Two to four real crystals of at least so many and at most 12 atoms."""
    known = [crystal for crystal in primitive_crystals() if len(crystal) >= least]
    return draw(st.lists(st.sampled_from(known), min_size=2, max_size=4))


@cache
def primitive_crystals() -> list[Crystal]:
    """Forty real crystals, of JARVIS where there is its file, in primitive cells."""
    return [primitive(crystal) for crystal in real_crystals(40, 12)]


def rewritten_by(names: list[str], crystal: Crystal, rng: np.random.Generator) -> Rewritten:
    """The crystal after several rewritings."""
    rotation = np.eye(3)
    for name in names:
        crystal, turn = (one := REWRITINGS[name](crystal, rng)).crystal, one.rotation
        rotation = turn @ rotation
    return Rewritten(crystal, rotation)


@pytest.mark.parametrize("encoder", ENCODERS)
@settings(max_examples=12)
@given(group=crystals(), names=st.lists(st.sampled_from([*REWRITINGS]), min_size=1, max_size=3), seed=SEEDS)
def test_however_it_is_written_it_is_the_same(encoder: str, group: list[Crystal], names: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    after = [rewritten_by(names, crystal, rng) for crystal in group]
    graphs = [graphs_in_both(each) for each in (group, [one.crystal for one in after])]
    for dtype, tolerance in TOLERANCES.items():
        before_graphs, after_graphs = (both[dtype] for both in graphs)
        off = rewriting_deviations(probe(encoder, dtype), before_graphs, after_graphs, after, rng)
        assert max(off)[0] < tolerance, max(off)


@pytest.mark.parametrize("encoder", ENCODERS)
@settings(max_examples=12)
@given(group=crystals(least=2), seed=SEEDS)
def test_a_millionth_of_an_angstrom_is_next_to_nothing(encoder: str, group: list[Crystal], seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = probe(encoder, torch.float64)
    graphs = [graphs_in_both(each)[one.dtype] for each in (group, [moved(each, rng, NUDGE) for each in group])]
    before, after = (one.outputs(each, mixed(each, rng)) for each in graphs)
    off = {name: float(values.max()) for name, values in deviations(after, before, one.spreads).items()}
    assert {name: value for name, value in off.items() if value > NUDGE * steepest(name)} == {}
    assert max(off.values()) > 1e-9, "nothing has moved"
