"""The compiled search: cells of every form against pymatgen's, large cells, and keeping the machine code."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_crystals import CRYSTALS, SETTINGS

from crystrata.graphs.arrays import ARRAY_FORMS
from crystrata.graphs.neighbours import (
    Neighbourhoods,
    build_graphs,
    find_all_neighbourhoods,
    search,
    wrapped,
)
from crystrata.sources.jarvis import open_data_file
from crystrata.structures.crystal import Crystal
from drills.exact_graphs import find_neighbourhoods

Edges = tuple[np.ndarray, np.ndarray]


def ordered(centre: np.ndarray, neighbour: np.ndarray, image: np.ndarray, distance: np.ndarray) -> Edges:
    """Edges as rows (centre, neighbour, image), (E, 5), in one order, and their lengths."""
    rows = np.column_stack([centre, neighbour, image]).astype(np.int64)
    order = np.lexsort(rows.T)
    return rows[order], distance[order]


def edges_of(found: Neighbourhoods) -> Edges:
    centre = np.repeat(np.arange(len(found.counts)), found.counts)
    return ordered(centre, found.neighbour, found.image, found.distance)


def by_pymatgen(crystal: Crystal, radius: float) -> Edges:
    from pymatgen.optimization.neighbors import find_points_in_spheres

    frac = wrapped(crystal.frac)
    cart, lattice = np.ascontiguousarray(frac @ crystal.lattice), np.ascontiguousarray(crystal.lattice)
    centre, neighbour, image, distance = find_points_in_spheres(
        all_coords=cart, center_coords=cart, r=radius, pbc=np.ones(3, dtype=np.int64), lattice=lattice, tol=1e-8
    )
    image = np.rint(image).astype(np.int64)
    other = (centre != neighbour) | image.any(axis=1)
    return ordered(centre[other], neighbour[other], image[other], distance[other])


def assert_same_edges(found: Edges, expected: Edges, reach: np.ndarray) -> None:
    """Both hold the same edges, of the same lengths; one as long as the reach of its atom (N,) may be in one alone."""
    (rows, lengths), (other_rows, other_lengths) = (
        [part[edges[1] < reach[edges[0][:, 0]] - 1e-8] for part in edges] for edges in (found, expected)
    )
    assert np.array_equal(rows, other_rows)
    assert np.abs(lengths - other_lengths).max(initial=0) < 1e-8


@st.composite
def cells(draw: st.DrawFn) -> Crystal:
    """Cells flat and long, skewed and not, small and huge, of one atom and of many, left- and right-handed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lattice = np.diag(10 ** rng.uniform(0.2, draw(st.sampled_from([0.6, 1.0, 1.6])), size=3))
    skew = np.tril(rng.uniform(-1, 1, size=(3, 3)) * draw(st.sampled_from([0.0, 0.5, 3.0])), -1)
    lattice = (np.eye(3) + skew) @ lattice @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    most = max(1, min(60, int(abs(np.linalg.det(lattice)) / 5)))
    n = draw(st.integers(1, most))
    return Crystal.create("drawn", lattice, [6] * n, rng.uniform(-2, 3, size=(n, 3)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cells(), st.sampled_from([0.7, 3.0, 5.0, 8.0]))
def test_all_pairs_of_any_cell(crystal: Crystal, radius: float) -> None:
    reach = np.full(len(crystal), radius)
    assert_same_edges(edges_of(search([crystal], 0, 0.0, radius)[0]), by_pymatgen(crystal, radius), reach)


def tiled(crystal: Crystal, times: int) -> Crystal:
    shifts = np.indices((times, times, times)).reshape(3, -1).T
    frac = (crystal.frac[None] + shifts[:, None]).reshape(-1, 3) / times
    return Crystal.create("tiled", times * crystal.lattice, np.tile(crystal.numbers, times**3), frac)


def test_a_cell_of_thousands_of_atoms_costs_as_much_per_atom_as_a_small_one() -> None:
    crystal = CRYSTALS[5]
    large = tiled(crystal, 8)
    assert len(large) > 2000
    one, many = find_neighbourhoods(crystal, SETTINGS), find_neighbourhoods(large, SETTINGS)
    assert np.array_equal(many.counts, np.tile(one.counts, 512))
    np.testing.assert_allclose(many.radius, np.tile(one.radius, 512), rtol=1e-12)
    seconds = []
    for crystals in ([crystal] * 512, [large]):
        started = time.process_time()
        find_all_neighbourhoods(crystals, SETTINGS)
        seconds.append(time.process_time() - started)
    assert seconds[1] < 3 * seconds[0]


def test_many_crystals_at_once_are_as_one_by_one() -> None:
    skewed = Crystal.create("skewed", [[3.0, 0, 0], [0, 3.0, 0], [30000.0, 0, 3.0]], [29], [(0, 0, 0)])
    overlap = Crystal.create("overlap", 6 * np.eye(3), [14, 14], np.zeros((2, 3)))
    crystals = [skewed, *CRYSTALS[:3], overlap, *CRYSTALS[3:], skewed]
    found, errors = find_all_neighbourhoods(crystals, SETTINGS)
    assert {position: error.code for position, error in errors.items()} == {
        0: "bad_cell", 4: "overlapping", len(crystals) - 1: "bad_cell",
    }  # fmt: skip
    single = [find_neighbourhoods(crystal, SETTINGS) for crystal in CRYSTALS]
    for name in ("counts", "neighbour", "image", "distance", "radius"):
        assert np.array_equal(getattr(found, name), np.concatenate([getattr(one, name) for one in single])), name
    pairs, atoms = search(crystals, 0, 0.0, 8.0)
    assert np.flatnonzero(pairs.radius < 0).tolist() == [0, atoms[-1] - 1]  # the skewed ones
    counts = [search([crystal], 0, 0.0, 5.0)[0].counts for crystal in CRYSTALS]
    assert np.array_equal(search(CRYSTALS, 0, 0.0, 5.0)[0].counts, np.concatenate(counts))


def test_the_order_of_arrays_in_memory_does_not_matter() -> None:
    crystal = CRYSTALS[5]
    turned = replace(crystal, lattice=np.asfortranarray(crystal.lattice), frac=np.asfortranarray(crystal.frac))
    one, other = (build_graphs([(0, form)], SETTINGS)[0] for form in (crystal, turned))
    for name in ARRAY_FORMS:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_no_crystals_give_no_graphs() -> None:
    graphs, rejected = build_graphs([], SETTINGS)
    assert len(graphs) == len(graphs.numbers) == len(graphs.cosine) == len(rejected) == 0


@pytest.mark.slow
def test_every_crystal_of_the_release_against_pymatgen() -> None:
    if not os.environ.get("CRYSTRATA_JARVIS"):
        pytest.skip("CRYSTRATA_JARVIS does not name a JARVIS-DFT parquet file")
    table = open_data_file(Path(os.environ["CRYSTRATA_JARVIS"]), cache_dir=Path(os.devnull))
    for crystal in table.crystals():
        found = find_neighbourhoods(crystal, SETTINGS)
        rows, distance = by_pymatgen(crystal, SETTINGS.cutoff)
        counts = np.bincount(rows[:, 0], minlength=len(crystal))
        enough, reach = counts >= SETTINGS.k, np.full(len(crystal), SETTINGS.cutoff)
        kth = distance[np.lexsort((distance, rows[:, 0]))][(np.cumsum(counts) - counts)[enough] + SETTINGS.k - 1]
        reach[enough] = np.minimum(SETTINGS.cutoff, (1 + SETTINGS.delta) * kth)
        assert np.abs(found.radius - reach).max() < 1e-8, crystal.id
        assert_same_edges(edges_of(found), (rows, distance), reach)


KERNEL = """
from numba import types

from crystrata.graphs.compiled import inline, kernel


@inline
def twice(number):
    return 2 * number


@kernel(types.int64)
def one_more(number):
    return twice(number) + 1
"""


def start(file: Path, name: str) -> ModuleType:
    """Import a file with a kernel as a new process does."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kernel_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("numba.config.CACHE_DIR", "")  # beside the file
    (tmp_path / "kernels.py").write_text(KERNEL)
    return tmp_path / "kernels.py"


@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("content", [b"", b"junk"])
def test_machine_code_is_kept_and_damage_mended(kernel_file: Path, pattern: str, content: bytes) -> None:
    hits = []
    for damage in (False, False, True, False):
        (kept, *_) = [*kernel_file.parent.rglob(pattern), None]
        if damage:
            kept.write_bytes(content)
        function = start(kernel_file, "kernels").one_more
        assert function(20) == 41
        hits.append(sum(function.stats.cache_hits.values()))
    assert hits == [0, 1, 0, 1]


def test_without_a_place_for_machine_code_all_works(kernel_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.caching import CompileResultCacheImpl

    monkeypatch.setattr(CompileResultCacheImpl, "_locator_classes", [])
    assert start(kernel_file, "kernels").one_more(20) == 41
    assert not list(kernel_file.parent.rglob("*.nb?"))


def test_without_room_for_machine_code_all_works(kernel_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", full)
    assert start(kernel_file, "kernels").one_more(20) == 41


def test_only_building_and_batching_load_numba(root: Path) -> None:
    program = (
        "import sys, crystrata.workflows.run, crystrata.prediction.predict, crystrata.graphs.portable\n"
        "sys.exit('numba was imported' if 'numba' in sys.modules else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
