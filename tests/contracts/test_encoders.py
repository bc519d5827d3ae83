"""What every encoder must be: blind to how a crystal is written, continuous, finite, saved whole, able to learn."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_cases import EncoderCase
from known_crystals import (
    CRYSTALS,
    FCC,
    LONE_ATOM,
    SETTINGS,
    SUPERCELLS,
    Change,
    all_crystals,
    batch_of,
    displaced,
    exact_batch_of,
    in_other_images,
    permuted,
    translated,
    turned,
)
from torch import Tensor

from crystrata.errors import UsageError
from crystrata.graphs.batch import CrystalBatch
from crystrata.networks.encoders import build_encoder
from crystrata.networks.encoders.encoder import StructureEncoder
from crystrata.networks.latent import Latent
from crystrata.structures.crystal import Crystal
from drills.rewritings import supercell

EXACT = 1e-10  # relative; 1e-15 is what is seen in float64 through and through
CHANGES: dict[str, Change] = {
    "as it is": lambda crystal: crystal,
    "rotated": turned,
    "reflected": partial(turned, mirrored=True),
    "translated": translated,
    "permuted": permuted,
    "in other images": in_other_images,
    **{name: partial(supercell, rows=rows) for name, rows in SUPERCELLS.items()},
}
REWRITTEN = [name for name in CHANGES if name != "as it is"]


@cache
def changed_batch(change: str, exact: bool) -> CrystalBatch:
    """All crystals after a change, graphs built again."""
    crystals = [CHANGES[change](crystal) for crystal in all_crystals()]
    return exact_batch_of(crystals) if exact else batch_of(crystals)


@torch.no_grad()
def latents(encoder: StructureEncoder, batch: CrystalBatch) -> Tensor:
    return Latent.of_crystals(encoder(batch), batch).pooled


def deviation(values: Tensor, reference: Tensor) -> float:
    """Largest difference, relative to how far the latents of different crystals lie apart: a constant never passes."""
    return float((values - reference).abs().max() / (reference - reference.mean(0)).abs().max())


@pytest.fixture(scope="module")
def encoder(case: EncoderCase) -> StructureEncoder:
    return case.build()


@pytest.fixture(scope="module")
def exact_encoder(case: EncoderCase) -> StructureEncoder:
    return case.build().double()


@pytest.fixture(scope="module")
def latent_spread(exact_encoder: StructureEncoder) -> float:
    """How far the latents of different crystals lie apart."""
    values = latents(exact_encoder, changed_batch("as it is", True))
    return float((values - values.mean(0)).abs().max())


def test_form(encoder: StructureEncoder, exact_encoder: StructureEncoder) -> None:
    for one, batch in ((encoder, batch_of(CRYSTALS)), (exact_encoder, exact_batch_of(CRYSTALS))):
        values = latents(one, batch)
        assert values.shape == (len(CRYSTALS), one.latent_width)
        assert values.dtype == batch.vector.dtype
        assert torch.isfinite(values).all()


@pytest.mark.parametrize("change", REWRITTEN)
def test_rewriting_a_crystal_changes_nothing_in_float64(exact_encoder: StructureEncoder, change: str) -> None:
    reference = latents(exact_encoder, changed_batch("as it is", True))
    assert deviation(latents(exact_encoder, changed_batch(change, True)), reference) < EXACT


@pytest.mark.parametrize("change", REWRITTEN)
def test_rewriting_a_crystal_changes_nothing_that_float32_could_show(
    case: EncoderCase, encoder: StructureEncoder, change: str
) -> None:
    reference = latents(encoder, changed_batch("as it is", False))
    assert deviation(latents(encoder, changed_batch(change, False)), reference) < case.stored_tolerance


def test_primitive_and_conventional_cells_are_one_crystal(exact_encoder: StructureEncoder) -> None:
    corners = np.vstack([np.zeros(3), FCC])
    cells = {
        "silicon": (5.431, [14] * 8, [*corners, *corners + 0.25]),
        "NaCl": (5.640, [11] * 4 + [17] * 4, [*corners, *corners + 0.5]),
        "GaAs": (5.653, [31] * 4 + [33] * 4, [*corners, *corners + 0.25]),
        "copper": (3.615, [29] * 4, list(corners)),
    }
    conventional = [Crystal.create(id, a * np.eye(3), numbers, frac) for id, (a, numbers, frac) in cells.items()]
    primitive = [crystal for crystal in CRYSTALS if crystal.id in cells]
    reference = latents(exact_encoder, exact_batch_of(primitive))
    assert deviation(latents(exact_encoder, exact_batch_of(conventional)), reference) < EXACT


def test_strain_and_species_are_seen(exact_encoder: StructureEncoder, latent_spread: float) -> None:
    strained = [replace(crystal, lattice=crystal.lattice * 1.03) for crystal in CRYSTALS]
    other = [replace(crystal, numbers=crystal.numbers + np.uint8(1)) for crystal in CRYSTALS]
    reference = latents(exact_encoder, exact_batch_of(CRYSTALS))
    for crystals in (strained, other):
        moved = (latents(exact_encoder, exact_batch_of(crystals)) - reference).abs().amax(1)
        assert moved.min() > 1e-4 * latent_spread


def test_a_batch_is_its_crystals_one_by_one(
    case: EncoderCase, encoder: StructureEncoder, exact_encoder: StructureEncoder
) -> None:
    mixed = [LONE_ATOM, *CRYSTALS[::-1], CRYSTALS[3], LONE_ATOM]
    for one, make, tolerance in ((exact_encoder, exact_batch_of, EXACT), (encoder, batch_of, 1e-5)):
        alone = torch.cat([latents(one, make([crystal])) for crystal in mixed])
        assert deviation(latents(one, make(mixed)), alone) < tolerance


def test_a_millionth_of_an_angstrom_changes_next_to_nothing(
    case: EncoderCase, encoder: StructureEncoder, exact_encoder: StructureEncoder, latent_spread: float
) -> None:
    path = [moved(at) for crystal in MOVING for at in np.linspace(0, REACH, 12) for moved in [partial(_along, crystal)]]
    nudged = [displaced(crystal, (6e-7, -5e-7, 6e-7), MOVING_ATOM) for crystal in path]
    for one, make, tolerance in ((exact_encoder, exact_batch_of, 1e-5), (encoder, batch_of, case.stored_tolerance)):
        moves = (latents(one, make(nudged)) - latents(one, make(path))).abs().max()
        assert moves < tolerance * latent_spread


MOVING, MOVING_ATOM, REACH = (CRYSTALS[0], CRYSTALS[5]), 1, 0.6  # [A]


def _along(crystal: Crystal, at: float) -> Crystal:
    return displaced(crystal, at * np.array([0.48, 0.64, -0.6]), MOVING_ATOM)


@cache
def crossings() -> tuple[CrystalBatch, CrystalBatch]:
    """Crystals just before and just after a neighbour enters or leaves a shell while one atom moves."""
    before, after = [], []
    for crystal in MOVING:
        ends = np.linspace(0.01, REACH, 60)
        for start, stop in pairwise(ends):
            edges = len(exact_batch_of([_along(crystal, start)]).centre)
            if len(exact_batch_of([_along(crystal, stop)]).centre) == edges:
                continue
            while stop - start > 1e-9:
                middle = (start + stop) / 2
                if len(exact_batch_of([_along(crystal, middle)]).centre) == edges:
                    start = middle
                else:
                    stop = middle
            before.append(_along(crystal, start))
            after.append(_along(crystal, stop))
    return exact_batch_of(before), exact_batch_of(after)


def test_no_jump_where_a_neighbour_enters_or_leaves(exact_encoder: StructureEncoder, latent_spread: float) -> None:
    before, after = crossings()
    assert len(before) >= 10
    edges = [torch.bincount(batch.crystal[batch.centre], minlength=len(before)) for batch in (before, after)]
    assert (edges[0] != edges[1]).all()
    jumps = (latents(exact_encoder, after) - latents(exact_encoder, before)).abs().max()
    assert jumps < 1e-8 * latent_spread


def test_an_atom_alone_in_its_range_is_finite(encoder: StructureEncoder) -> None:
    batch = batch_of([LONE_ATOM])
    assert len(batch.centre) == 0
    values = encoder(batch)
    assert torch.isfinite(values).all()
    values.square().sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_every_weight_has_a_finite_gradient(case: EncoderCase) -> None:
    encoder = case.build()
    values = encoder(batch_of([*all_crystals(), LONE_ATOM]))
    (values * torch.randn_like(values)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, f"{name} takes no part"
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, f"{name} takes no part"


def test_cached_angles_are_read_where_they_are_declared(encoder: StructureEncoder) -> None:
    batch = batch_of(CRYSTALS)
    without = replace(batch, pair=batch.pair[:, :0], cosine=batch.cosine[:0])
    same = torch.equal(latents(encoder, batch), latents(encoder, without))
    assert same is not encoder.needs_angles


def test_saved_and_loaded_it_is_the_same(case: EncoderCase, encoder: StructureEncoder, tmp_path: Path) -> None:
    torch.save(encoder.state_dict(), tmp_path / "weights.pt")
    batch = batch_of(CRYSTALS)
    other = case.build(seed=1)
    assert not torch.allclose(latents(other, batch), latents(encoder, batch))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(latents(other, batch), latents(encoder, batch))


def test_it_overfits_eight_crystals(case: EncoderCase) -> None:
    encoder = case.build()
    readout = torch.nn.Linear(encoder.latent_width, 1)
    batch, wanted = batch_of(CRYSTALS), torch.tensor([-1.2, 0.4, 1.7, -0.3, 0.9, -1.5, 0.1, -0.8])
    optimizer = torch.optim.Adam([*encoder.parameters(), *readout.parameters()], lr=1e-2)
    for _ in range(300):
        loss = (readout(Latent.of_crystals(encoder(batch), batch).pooled).squeeze(1) - wanted).square().mean()
        if loss < 1e-3:
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pytest.fail(f"the mean squared error stays at {float(loss.detach()):.3g}")


def test_unknown_names_are_refused_with_the_nearest(case: EncoderCase) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{case.name}'"):
        build_encoder(case.name + "x", SETTINGS, {})
    with pytest.raises(UsageError, match=f"setting of encoder {case.name} 'chanels'; did you mean 'channels'"):
        build_encoder(case.name, SETTINGS, {"chanels": 3})
