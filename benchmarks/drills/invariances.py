"""Real crystals written differently, graphs built again, in other company: every head on every encoder says the same.

Untrained networks whose outputs are spread show more than trained ones: nothing has taught them to be invariant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crystrata.graphs.arrays import GraphArrays
from crystrata.presets import ENCODERS
from crystrata.structures.crystal import Crystal
from drills.drill import Drill, Tally
from drills.exact_graphs import exact_graphs, graphs_of
from drills.probe import SETTINGS, Probe, demo_graphs, deviations, mixed, probe
from drills.real_crystals import demo, sample, source_in_words
from drills.rewritings import REWRITINGS, Rewritten, primitive

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-8}
"""Largest relative deviation."""

SEEN = 1e-3
"""What a strain of 3% changes at least: a network blind to structure would pass every other check."""


def try_rewritings(quick: bool, scratch: Path, tally: Tally) -> None:
    """Count every crystal in every rewriting; it holds where all encoders agree with themselves in both precisions."""
    crystals = [primitive(crystal) for crystal in sample(quick, 320)]
    rng = np.random.default_rng(0)
    rewritten = {name: [change(crystal, rng) for crystal in crystals] for name, change in REWRITINGS.items()}
    everything = [one for group in rewritten.values() for one in group]
    before, after = (graphs_in_both(group) for group in (crystals, [one.crystal for one in everything]))
    worst: list[tuple[float, str]] = [(0.0, "")] * len(everything)
    for encoder in ENCODERS:
        for dtype, tolerance in TOLERANCES.items():
            one = probe(encoder, dtype)
            if dtype == torch.float64:
                try_sight(one, tally)
            off = rewriting_deviations(one, before[dtype], after[dtype], everything, rng)
            for row, (value, output) in enumerate(off):
                worst[row] = max(worst[row], (value / tolerance, f"{one.words}, {output}: {value:.2g}"))
    names = [f"{crystal.id} {name}" for name in rewritten for crystal in crystals]
    for name, (excess, words) in zip(names, worst, strict=True):
        tally.check(excess < 1, f"{name}: {words}")


def graphs_in_both(crystals: Sequence[Crystal]) -> dict[torch.dtype, GraphArrays]:
    """Return the graphs of crystals with geometry in float32 and in float64."""
    single = graphs_of(crystals, SETTINGS)
    return {torch.float32: single, torch.float64: exact_graphs(single, crystals, SETTINGS)}


def rewriting_deviations(
    one: Probe, before: GraphArrays, after: GraphArrays, rewritten: Sequence[Rewritten], rng: np.random.Generator
) -> list[tuple[float, str]]:
    """Return the largest deviation of each rewritten crystal and which output has it.

    Args:
        one: The networks.
        before: Graphs of B crystals.
        after: Graphs of what they are rewritten to, all B in one rewriting after the other.
        rewritten: The crystals of these graphs.
        rng: Draws the batches.
    """
    outputs, found = (one.outputs(graphs, mixed(graphs, rng)) for graphs in (before, after))
    rotations = torch.from_numpy(np.stack([each.rotation for each in rewritten])).to(one.dtype)
    again = torch.arange(len(before)).repeat(len(after) // len(before))
    wanted = {name: turned(values[again], rotations) for name, values in outputs.items()}
    off = deviations(found, wanted, one.spreads)
    largest = torch.stack(list(off.values())).max(0)
    names = list(off)
    return [(value, names[row]) for value, row in zip(largest.values.tolist(), largest.indices.tolist(), strict=True)]


def turned(values: Tensor, rotations: Tensor) -> Tensor:
    """Return tensors (B, 3, ..., 3) turned by rotations (B, 3, 3); numbers (B,) stay."""
    forms = {1: "n->n", 3: "nai,nbj,nij->nab", 4: "nai,nbj,nck,nijk->nabc"}
    return torch.einsum(forms[values.dim()], *[rotations] * (values.dim() - 1), values)


def try_sight(one: Probe, tally: Tally) -> None:
    """Check that outputs differ between demo crystals, and that strain moves them: else invariance proves nothing."""
    graphs, rows = demo_graphs(one.dtype)
    outputs = one.outputs(graphs, rows)
    strained = [replace(crystal, lattice=crystal.lattice * 1.03) for crystal in list(demo().crystals())[::12]]
    moved = deviations(one.outputs(graphs_in_both(strained)[one.dtype], rows), outputs, one.spreads)
    for name, values in outputs.items():
        distinct = len(torch.unique(values.flatten(1) if values.dim() > 1 else values, dim=0)) / len(graphs)
        tally.check(distinct > 0.25, f"{one.words}, {name}: only {distinct:.0%} of the values are distinct")
        share = float((moved[name] > SEEN).double().mean())
        tally.check(share > 0.1, f"{one.words}, {name}: a strain is seen in {share:.0%} of the crystals")


DRILLS = (
    Drill(
        "invariances",
        "rotation, reflection, translation, permutation, images, supercells, other cells, batch mix: relative 1e-4 in "
        f"float32, 1e-8 in float64, for every head on every encoder; {source_in_words()}",
        try_rewritings,
    ),
)
