"""Angle pairs, their cosines, and the two forms of the angle features. N atoms, E edges, T pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_crystals import CRYSTALS, LONE_ATOM, SETTINGS, all_crystals, angle_pairs, batch_of, exact_batch_of, turned
from numpy.polynomial import legendre

from crystrata.graphs.arrays import COSINE_SCALE, offsets, ranges
from crystrata.graphs.batch import CrystalBatch
from crystrata.graphs.neighbours import build_graphs
from crystrata.networks.edges import AngleFeatures, AngleForm, EdgeFeatures
from crystrata.networks.geometry import BesselBasis, GaussianBasis, edge_lengths, envelope

WIDTHS = {"n_radial": 4, "l_max": 3}


def features(form: AngleForm, batch: CrystalBatch, cutoff: float = SETTINGS.angle_cutoff) -> torch.Tensor:
    module = AngleFeatures(form, cutoff, SETTINGS.delta, **WIDTHS).to(batch.vector.dtype)
    return module(batch, edge_lengths(batch))


def test_pairs_come_two_by_two_in_order() -> None:
    graphs, _ = build_graphs(enumerate(all_crystals()), SETTINGS)
    expected = angle_pairs(graphs.edge_counts, graphs.angle_counts)
    assert expected.shape[1] > 1000
    assert np.array_equal(batch_of(all_crystals()).pair, expected)


def test_offsets_and_ranges() -> None:
    assert offsets(np.array([2, 0, 3], dtype=np.uint16)).tolist() == [0, 2, 2, 5]
    assert offsets(np.array([65535] * 3, dtype=np.uint16)).tolist()[-1] == 3 * 65535
    assert ranges(np.array([10, 4, 7]), np.array([2, 0, 3])).tolist() == [10, 11, 7, 8, 9]
    assert ranges(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)).tolist() == []


def test_cosines_are_those_of_the_lattice() -> None:
    graphs, _ = build_graphs(enumerate(CRYSTALS), SETTINGS)
    first, second = angle_pairs(graphs.edge_counts, graphs.angle_counts)
    vector = exact_batch_of(CRYSTALS).vector.numpy()
    a, b = vector[first], vector[second]
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert len(cosine) == len(graphs.cosine) > 1000
    assert np.abs(graphs.cosine / COSINE_SCALE - cosine).max() < 2e-5


def test_silicon_has_its_tetrahedral_angle() -> None:
    graphs, _ = build_graphs([(0, CRYSTALS[0])], replace(SETTINGS, angle_cutoff=3.0))
    assert graphs.angle_counts.tolist() == [4, 4]
    np.testing.assert_allclose(graphs.cosine / COSINE_SCALE, np.full(12, -1 / 3), atol=2e-5)


def test_every_edge_within_the_angle_cutoff_takes_part() -> None:
    graphs, _ = build_graphs(enumerate(all_crystals()), SETTINGS)
    near = np.linalg.norm(graphs.vector, axis=1) < SETTINGS.angle_cutoff
    centre = np.repeat(np.arange(len(graphs.edge_counts)), graphs.edge_counts)
    assert np.array_equal(np.bincount(centre[near], minlength=len(graphs.edge_counts)), graphs.angle_counts)
    assert len(graphs.cosine) == sum(n * (n - 1) // 2 for n in graphs.angle_counts.tolist())


def test_both_forms_agree() -> None:
    exact = exact_batch_of(all_crystals())
    density = features("density", exact)
    size = float(density.abs().max())
    assert size > 0.5
    torch.testing.assert_close(features("cached", exact), density, rtol=1e-10, atol=1e-11 * size)
    stored = batch_of(all_crystals())
    assert (features("cached", stored) - features("density", stored)).abs().max() < 1e-4 * size
    assert (features("density", stored) - density).abs().max() < 1e-5 * size


def test_features_are_the_sum_over_triplets() -> None:
    batch = exact_batch_of([CRYSTALS[5]])
    distance, centre = edge_lengths(batch).numpy(), batch.centre.numpy()
    module = AngleFeatures("density", 4.0, SETTINGS.delta, **WIDTHS).double()
    basis = module.basis(edge_lengths(batch)).numpy()

    def fade(r: np.ndarray, outer: np.ndarray | float, delta: float) -> np.ndarray:
        t = np.clip((r - outer / (1 + delta)) / (outer - outer / (1 + delta)), 0, 1)
        return 1 - 10 * t**3 + 15 * t**4 - 6 * t**5

    weight = fade(distance, batch.radius.numpy()[centre], SETTINGS.delta) * fade(distance, 4.0, 0.5)
    unit = batch.vector.numpy() / distance[:, None]
    expected = np.zeros((len(distance), 4, 3))
    for ij in range(len(distance)):
        for ik in np.flatnonzero(centre == centre[ij]):
            for degree in range(1, 4) if ik != ij else ():
                p = legendre.legval(unit[ij] @ unit[ik], np.eye(4)[degree])
                expected[ij, :, degree - 1] += weight[ij] * weight[ik] * basis[ik] * p
    np.testing.assert_allclose(features("density", batch).numpy(), expected.reshape(len(distance), -1), atol=1e-7)


def test_features_turn_with_nothing() -> None:
    reference = features("density", exact_batch_of(CRYSTALS))
    mirrored = features("density", exact_batch_of([turned(crystal, mirrored=True) for crystal in CRYSTALS]))
    # Edges of equal length may change places: compare the sums over each centre.
    centre = exact_batch_of(CRYSTALS).centre
    sums = [torch.zeros(int(centre.max()) + 1, 12).double().index_add(0, centre, one) for one in (reference, mirrored)]
    torch.testing.assert_close(*sums, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", ["cached", "density"])
def test_a_lone_atom_has_no_angles(form: AngleForm) -> None:
    assert features(form, batch_of([LONE_ATOM])).shape == (0, 12)


def test_envelope_is_one_then_falls_smoothly_to_zero() -> None:
    radius = torch.full((2001,), 5.0, dtype=torch.double)
    distance = torch.linspace(3.5, 5.5, 2001, dtype=torch.double, requires_grad=True)
    weight = envelope(distance, radius, 0.25)
    assert (weight[distance <= 4.0] == 1).all()
    assert (weight[distance >= 5.0].abs() < 1e-12).all()
    assert (weight.diff() <= 1e-12).all()
    (slope,) = torch.autograd.grad(weight.sum(), distance, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), distance)
    step = 2.0 / 2000
    assert slope.diff().abs().max() < 10 * step  # no kink: neither slope nor curvature jumps
    assert bend.diff().abs().max() < 100 * step


def test_radial_bases() -> None:
    distance = torch.tensor([0.0, 1e-4, 1.3, 4.0], dtype=torch.double)
    bessel = BesselBasis(5, 4.0).double()(distance)
    k, r = np.arange(1, 6), distance.numpy()[2:, None]
    np.testing.assert_allclose(bessel[2:], np.sqrt(2) * 3.5 / r * np.sin(k * np.pi * r / 4), atol=1e-5)
    np.testing.assert_allclose(bessel[0], np.sqrt(2) * 3.5 * k * np.pi / 4, rtol=1e-6)
    assert bessel[3].abs().max() < 1e-5
    gauss = GaussianBasis(5, 4.0).double()(distance)
    np.testing.assert_allclose(gauss, np.exp(-((distance.numpy()[:, None] - np.arange(5)) ** 2)), rtol=1e-6)


@pytest.mark.parametrize("form", ["none", "cached", "density"])
def test_nothing_of_the_edge_features_is_saved(form: AngleForm) -> None:
    """Weights that were saved with other angle features, or before these, keep their names."""
    for basis in (BesselBasis(4, 8.0), GaussianBasis(4, 8.0)):
        assert EdgeFeatures(basis, SETTINGS, form).state_dict() == {}
