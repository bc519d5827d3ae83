"""Smooth neighbourhoods against two independent searches: all images in numpy, and ASE. N atoms, E edges."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from known_crystals import CRYSTALS, FCC, LONE_ATOM, SETTINGS, all_crystals, displaced, jarvis_crystals

from crystrata.errors import UsageError
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.neighbours import Neighbourhoods, build_graphs, wrapped
from crystrata.structures.crystal import Crystal, CrystalError
from drills.exact_graphs import find_neighbourhoods

Edge = tuple[int, int, int, int, int]


def random_crystals(count: int) -> list[Crystal]:
    """Crystals with skewed cells and atoms anywhere, some outside the cell; none overlaps."""
    rng, found = np.random.default_rng(3), []
    while len(found) < count:
        lattice = rng.normal(size=(3, 3)) * 3 + np.diag([4, 4, 4])
        n = int(rng.integers(1, 6))
        volume = abs(np.linalg.det(lattice)) / n
        if not 8 < volume < 150:
            continue
        crystal = Crystal.create(f"random {len(found)}", lattice, [6] * n, rng.uniform(-2, 3, size=(n, 3)))
        if all_pairs(crystal, 1.0)[1].size == 0:
            found.append(crystal)
    return found


def all_pairs(crystal: Crystal, cutoff: float) -> tuple[list[Edge], np.ndarray]:
    """Every (centre, neighbour, image) within the cutoff and its distance, by trying all images."""
    heights = 1 / np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0)  # [A] between the faces of the cell
    reach = np.floor(cutoff / heights).astype(int) + 1
    images = np.array(list(product(*(range(-n, n + 1) for n in reach))))
    frac = crystal.frac - np.floor(crystal.frac)
    difference = frac[None, :, None] + images[None, None] - frac[:, None, None]  # (N, N, images, 3)
    distance = np.linalg.norm(difference @ crystal.lattice, axis=-1)
    itself = (np.arange(len(frac))[:, None, None] == np.arange(len(frac))[:, None]) & ~images.any(1)
    i, j, n = np.nonzero((distance <= cutoff) & ~itself)
    edges = [(a, b, *image) for a, b, image in zip(i.tolist(), j.tolist(), images[n].tolist(), strict=True)]
    return edges, distance[i, j, n]


def expected_ranges(n_atoms: int, edges: list[Edge], distance: np.ndarray, settings: GraphSettings) -> np.ndarray:
    """R_i by its definition."""
    ranges = np.full(n_atoms, settings.cutoff)
    for atom in range(n_atoms):
        nearest = sorted(d for edge, d in zip(edges, distance, strict=True) if edge[0] == atom)
        if len(nearest) >= settings.k:
            ranges[atom] = min(settings.cutoff, (1 + settings.delta) * nearest[settings.k - 1])
    return ranges


def edges_of(found: Neighbourhoods) -> dict[Edge, float]:
    centre = np.repeat(np.arange(len(found.counts)), found.counts)
    keys = zip(centre.tolist(), found.neighbour.tolist(), *found.image.T.tolist(), strict=True)
    edges = dict(zip(keys, found.distance.tolist(), strict=True))
    assert len(edges) == len(found.distance)  # no edge twice
    return edges


def assert_equal(found: Neighbourhoods, edges: list[Edge], distance: np.ndarray, settings: GraphSettings) -> None:
    ranges = expected_ranges(len(found.counts), edges, distance, settings)
    np.testing.assert_allclose(found.radius, ranges, rtol=1e-12)
    expected = {edge: d for edge, d in zip(edges, distance, strict=True) if d < ranges[edge[0]]}
    actual = edges_of(found)
    for edge in expected.keys() ^ actual.keys():  # only an edge on the very rim, of weight zero, may be in doubt
        assert abs((expected | actual)[edge] - ranges[edge[0]]) < 1e-9
    for edge in expected.keys() & actual.keys():
        assert actual[edge] == pytest.approx(expected[edge], abs=1e-10)


@pytest.mark.parametrize("crystal", [*CRYSTALS, *random_crystals(12)], ids=lambda crystal: crystal.id)
@pytest.mark.parametrize("settings", [SETTINGS, GraphSettings(k=5, delta=0.4, cutoff=4.5)], ids=["default", "short"])
def test_against_all_images(crystal: Crystal, settings: GraphSettings) -> None:
    assert_equal(find_neighbourhoods(crystal, settings), *all_pairs(crystal, settings.cutoff), settings)


def test_against_ase_on_real_crystals() -> None:
    from ase.neighborlist import primitive_neighbor_list

    if not jarvis_crystals():
        pytest.skip("CRYSTRATA_JARVIS does not name a JARVIS-DFT parquet file")
    for crystal in jarvis_crystals():
        frac = crystal.frac - np.floor(crystal.frac)
        i, j, image, distance = primitive_neighbor_list(
            "ijSd", [True] * 3, crystal.lattice, frac @ crystal.lattice, SETTINGS.cutoff
        )
        edges = [(a, b, *n) for a, b, n in zip(i.tolist(), j.tolist(), image.tolist(), strict=True)]
        assert_equal(find_neighbourhoods(crystal, SETTINGS), edges, distance, SETTINGS)


@pytest.mark.parametrize("crystal", all_crystals(), ids=lambda crystal: crystal.id)
def test_edges_are_in_order_and_have_their_reverse(crystal: Crystal) -> None:
    found = find_neighbourhoods(crystal, SETTINGS)
    assert found.counts.sum() == len(found.neighbour) == len(found.image) == len(found.distance)
    centre = np.repeat(np.arange(len(crystal)), found.counts)
    assert np.array_equal(np.lexsort((found.distance, centre)), np.arange(len(centre)))
    assert (found.distance < found.radius[centre]).all()
    edges = edges_of(found)
    for (i, j, *image), distance in edges.items():
        if distance < found.radius[j] - 1e-9:
            assert (j, i, *(-n for n in image)) in edges


def test_the_range_is_set_by_the_kth_neighbour() -> None:
    near = 5.431 * np.sqrt(3) / 4  # [A] silicon: 4 neighbours here, 12 at a / sqrt(2), 12 at 4.503 A
    next_shell = 5.431 / np.sqrt(2)
    for k, delta, radius, count in (
        (4, 0.25, 1.25 * near, 4),
        (5, 0.25, 1.25 * next_shell, 28),
        (12, 0.1, 1.1 * next_shell, 16),
    ):
        found = find_neighbourhoods(CRYSTALS[0], GraphSettings(k=k, delta=delta))
        assert found.radius == pytest.approx(radius)
        assert found.counts.tolist() == [count, count]


def test_with_fewer_than_k_the_range_is_the_cutoff() -> None:
    simple = Crystal.create("simple cubic", 5.0 * np.eye(3), [84], [(0, 0, 0)])  # 6 neighbours at 5 A, 12 at 7.07 A
    found = find_neighbourhoods(simple, GraphSettings(k=12, cutoff=6.0))
    assert found.radius.tolist() == [6.0]
    assert found.counts.tolist() == [6]
    capped = find_neighbourhoods(simple, GraphSettings(k=12, cutoff=8.0))  # 1.25 * 7.07 is beyond the cutoff
    assert capped.radius.tolist() == [8.0]
    assert capped.counts.tolist() == [18]
    alone = find_neighbourhoods(LONE_ATOM, SETTINGS)
    assert alone.counts.tolist() == [0]
    assert alone.radius.tolist() == [8.0]
    assert alone.image.shape == (0, 3)


def test_no_shell_is_cut() -> None:
    copper = CRYSTALS[-1]  # 12 neighbours at one distance: a list of k < 12 of them would break the symmetry
    for k in range(1, 13):
        assert find_neighbourhoods(copper, GraphSettings(k=k)).counts.tolist() == [12]


def test_two_atoms_of_a_pair_may_have_different_ranges() -> None:
    found = find_neighbourhoods(CRYSTALS[5], SETTINGS)
    assert len(set(found.radius.round(6))) > 1
    edges = edges_of(found)
    assert any((j, i, *(-n for n in image)) not in edges for i, j, *image in edges)


@pytest.mark.parametrize("gap", [0.0, 0.05, 0.39])
def test_overlapping_atoms_are_refused(gap: float) -> None:
    crystal = Crystal.create("pair", 6 * np.eye(3), [14, 14], [(0, 0, 0), (1 + gap / 6, 2, -1)])
    with pytest.raises(CrystalError, match=f"{gap:.3f} A apart") as caught:
        find_neighbourhoods(crystal, SETTINGS)
    assert caught.value.code == "overlapping"
    graphs, rejected = build_graphs([(7, crystal), (9, CRYSTALS[0])], SETTINGS)
    assert [(row, one.id, one.code) for row, one in rejected] == [(7, "pair", "overlapping")]
    assert graphs.source_row.tolist() == [9]


def test_a_short_lattice_vector_overlaps_with_itself() -> None:
    crystal = Crystal.create("flat", np.diag([0.3, 9.0, 9.0]), [14], [(0, 0, 0)])
    with pytest.raises(CrystalError, match=r"0\.300 A apart"):
        find_neighbourhoods(crystal, SETTINGS)


def test_hydrogen_molecules_are_no_overlap() -> None:
    crystal = displaced(Crystal.create("H2", 4 * np.eye(3), [1, 1], np.zeros((2, 3))), (0.74, 0, 0))
    assert find_neighbourhoods(crystal, SETTINGS).distance.min() == pytest.approx(0.74)


def test_coordinates_are_wrapped_into_the_cell() -> None:
    frac = np.array([[1.25, -0.25, 7.0], [-1e-17, 0.999999, -3.0]])
    inside = wrapped(frac)
    np.testing.assert_allclose(inside[0], [0.25, 0.75, 0.0])
    assert (inside >= 0).all()
    assert (inside < 1).all()


def test_an_atom_a_hair_below_zero_keeps_its_neighbours() -> None:
    silicon = CRYSTALS[0]
    for hair in (-1e-17, -1e-13, 1e-17):
        below = replace(silicon, frac=silicon.frac + np.array([[hair, 0, -hair], [0, 0, 0]]))
        found = find_neighbourhoods(below, SETTINGS)
        np.testing.assert_allclose(found.distance, find_neighbourhoods(silicon, SETTINGS).distance)
        graphs, _ = build_graphs([(0, below)], SETTINGS)
        np.testing.assert_allclose(np.linalg.norm(graphs.vector, axis=1), found.distance, rtol=1e-6)


def test_an_extremely_skewed_cell_is_refused_by_name() -> None:
    lattice = np.array([[3.0, 0, 0], [0, 3.0, 0], [3.0 * 400, 0, 3.0]])
    with pytest.raises(CrystalError, match="Niggli") as caught:
        find_neighbourhoods(Crystal.create("skewed", lattice, [29], [(0, 0, 0)]), SETTINGS)
    assert caught.value.code == "bad_cell"


def test_a_left_handed_cell_is_as_good() -> None:
    right = Crystal.create("right", 3.615 * FCC, [29], [(0, 0, 0)])
    left = Crystal.create("left", 3.615 * FCC[::-1], [29], [(0, 0, 0)])
    assert np.linalg.det(left.lattice) * np.linalg.det(right.lattice) < 0
    mirrored, reference = (find_neighbourhoods(crystal, SETTINGS).distance for crystal in (left, right))
    np.testing.assert_allclose(mirrored, reference)


@pytest.mark.parametrize("wrong", [{"k": 0}, {"delta": 0.0}, {"cutoff": -1.0}, {"angle_cutoff": -0.1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        GraphSettings(**wrong)
