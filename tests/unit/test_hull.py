"""The convex hull: by hand, against pymatgen's own phase diagram, and without a leak of left-out energies."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crystrata.elements import MAX_ATOMIC_NUMBER, SYMBOLS
from crystrata.errors import InputError, ModelError
from crystrata.hull import Levels, cached_hull_energies, formula_counts, hull_energies, solvers
from crystrata.hull.conventions import with_derived
from crystrata.hull.solvers import MAX_FACET_ELEMENTS, Solver
from crystrata.jarvis_properties import PROPERTIES
from crystrata.structures.crystal import reduced_formula

SOLVERS: tuple[Solver, ...] = ("pymatgen", "scipy")


def hull_of(energies: dict[str, float], *, out: tuple[str, ...] = (), solver: Solver | None = None) -> dict[str, float]:
    """Hull energy by formula; the formulas in `out` do not span the hull."""
    reference = np.array([formula not in out for formula in energies])
    found = hull_energies(formula_counts(energies), np.array(list(energies.values())), reference, solver=solver)
    return dict(zip(energies, found.tolist(), strict=True))


@pytest.mark.parametrize("solver", SOLVERS)
def test_binary_tie_lines(solver: Solver) -> None:
    # Stable: Na, NaCl (-1 at x = 1/2), Cl. Na3Cl (x = 1/4) and NaCl3 (x = 3/4) lie on the tie lines at -0.5.
    energies = {"Na": 0.0, "Cl": 0.0, "NaCl": -1.0, "Na3Cl": -0.3, "NaCl3": 0.2, "Na2Cl": np.nan}
    assert hull_of(energies, solver=solver) == pytest.approx(
        {"Na": 0.0, "Cl": 0.0, "NaCl": -1.0, "Na3Cl": -0.5, "NaCl3": -0.5, "Na2Cl": -2 / 3}, abs=1e-12
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_ternary_decomposes_into_its_binaries(solver: Solver) -> None:
    # CaTiO3 = 2/5 CaO + 3/5 TiO2: 0.4 * -3 + 0.6 * -3.2 = -3.12; the measured -3.4 is stable, -3.0 is not.
    energies = {"Ca": 0.0, "Ti": 0.0, "O": 0.0, "CaO": -3.0, "TiO2": -3.2}
    assert hull_of(energies | {"CaTiO3": -3.4}, solver=solver)["CaTiO3"] == -3.4
    assert hull_of(energies | {"CaTiO3": -3.0}, solver=solver)["CaTiO3"] == pytest.approx(-3.12, abs=1e-12)
    # With CaTiO3 stable, Ca2TiO4 = 2/7 CaO + 5/7 CaTiO3.
    four = hull_of(energies | {"CaTiO3": -3.4, "Ca2O4Ti": np.nan}, solver=solver)["Ca2O4Ti"]
    assert four == pytest.approx((2 * -3.0 + 5 * -3.4) / 7, abs=1e-12)


def test_polymorphs_and_multiples_share_one_composition() -> None:
    counts = formula_counts(["O2Ti", "Ti2O4"])
    found = hull_energies(counts, np.array([-3.1, -3.2]), np.array([True, True]))
    assert found.tolist() == [-3.2, -3.2]


def test_only_reference_rows_span_the_hull() -> None:
    energies = {"Na": 0.0, "Cl": 0.0, "NaCl": -1.0, "Na3Cl": -0.3}
    with_it, without = hull_of(energies), hull_of(energies, out=("NaCl",))
    assert (with_it["NaCl"], with_it["Na3Cl"]) == pytest.approx((-1.0, -0.5))
    assert (without["NaCl"], without["Na3Cl"]) == pytest.approx((-0.2, -0.3))  # NaCl now sits on Na3Cl - Cl


@pytest.mark.parametrize("value", [-50.0, 7.0, np.nan, np.inf])
def test_the_energy_of_a_left_out_row_has_no_influence(value: float) -> None:
    counts, energies, reference = made_up(seed=5)
    before = hull_energies(counts, energies, reference)
    changed = np.where(reference, energies, value)
    assert hull_energies(counts, changed, reference).tobytes() == before.tobytes()
    assert not np.allclose(hull_energies(counts, energies, ~reference), before)


def test_elements_are_zero_or_lower() -> None:
    # Cs has no reference and Cl only an unstable one: both stand at 0. W lies below 0: its energy is the terminal.
    energies = {"Cs": np.nan, "Cl": 0.4, "W": -0.5, "ClCs": np.nan, "ClW": 1.0}
    assert hull_of(energies) == pytest.approx({"Cs": 0.0, "Cl": 0.0, "W": -0.5, "ClCs": 0.0, "ClW": -0.25})
    assert hull_of({"CsF": -1.0, "CsF3": np.nan}) == pytest.approx({"CsF": -1.0, "CsF3": -0.5})


@pytest.mark.parametrize("solver", SOLVERS)
def test_agrees_with_a_plain_phase_diagram(solver: Solver) -> None:
    for seed in range(12):
        counts, energies, reference = made_up(seed)
        found = hull_energies(counts, energies, reference, solver=solver)
        assert found == pytest.approx(plain_phase_diagram(counts, energies, reference), abs=1e-9)
        assert (energies - found)[reference].min() >= 0.0


def test_many_elements_need_no_facets(monkeypatch: pytest.MonkeyPatch) -> None:
    # Thirty elements: 2^30 subsystems and a 29-dimensional hull, were they walked. Half of the atoms pair up as NaCl.
    symbols = ["Na", "Cl", *SYMBOLS[20:48]]
    mixed = "".join(f"{symbol}{14 if symbol in ('Na', 'Cl') else 1}" for symbol in symbols)
    assert len(symbols) > MAX_FACET_ELEMENTS
    facets = solvers._by_phase_diagram
    sizes: list[int] = []

    def recorded(systems: Sequence[solvers.System]) -> list[np.ndarray]:
        sizes.extend(len(system.elements) for system in systems)
        return facets(systems)

    monkeypatch.setattr(solvers, "_by_phase_diagram", recorded)
    assert hull_of({"NaCl": -2.0, mixed: np.nan}, solver="pymatgen")[mixed] == pytest.approx(-1.0)
    assert sizes == [2]


def test_progress_ends_complete_and_never_falls() -> None:
    seen: list[tuple[int, int]] = []
    counts, energies, reference = made_up(seed=3)
    hull_energies(counts, energies, reference, progress=lambda done, total: seen.append((done, total)))
    done = [step[0] for step in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1] > 1


def test_without_pymatgen_the_linear_program_steps_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(systems: object) -> None:
        raise ModuleNotFoundError("pymatgen")

    counts, energies, reference = made_up(seed=2)
    expected = hull_energies(counts, energies, reference)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(solvers, "_by_phase_diagram", absent)
    assert hull_energies(counts, energies, reference) == pytest.approx(expected, abs=1e-9)


def test_input_that_does_not_fit_is_refused() -> None:
    counts, one = formula_counts(["NaCl"]), np.array([-1.0])
    yes = np.array([True])
    for wrong in (
        (counts.astype(float), one, yes),
        (counts[:, :50], one, yes),
        (counts, np.zeros(2), yes),
        (counts, one, np.array([1])),
        (counts * 0, one, yes),
        (counts, np.array([-np.inf]), yes),
    ):
        with pytest.raises(InputError):
            hull_energies(*wrong)


@pytest.mark.parametrize("formula", ["", "NaCl0.5", "(NaCl)2", "Na Cl", "Wat", "na"])
def test_unreadable_formulas_are_refused(formula: str) -> None:
    with pytest.raises(InputError):
        formula_counts([formula])


def test_cache_returns_the_same_bytes(tmp_path: Path) -> None:
    counts, energies, reference = made_up(seed=1)
    steps: list[int] = []

    def run(energies: np.ndarray, reference: np.ndarray) -> np.ndarray:
        return cached_hull_energies(
            counts, energies, reference, cache_dir=tmp_path, key="made/up", progress=lambda done, _: steps.append(done)
        )

    first = run(energies, reference)
    computed = len(steps)
    assert first.tobytes() == hull_energies(counts, energies, reference).tobytes()
    assert run(energies, reference).tobytes() == first.tobytes()
    assert run(np.where(reference, energies, 9.0), reference).tobytes() == first.tobytes()  # left-out labels: same key
    assert len(steps) == computed
    assert len(list(tmp_path.iterdir())) == 1

    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    flipped = bytes([*content[:200], content[200] ^ 1, *content[201:]])  # the last bit of an energy
    for damaged in (content[:-8], b"", content[:-40] + b"\xff" * 8 + content[-32:], flipped):
        file.write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"hull .* is damaged; it is computed again"):
            assert run(energies, reference).tobytes() == first.tobytes()
        assert file.read_bytes() == content

    run(energies - 0.125, reference)
    flat = np.where((counts > 0).sum(axis=1) > 1, -1.0, 0.0)  # two masks of equal energies are two hulls
    one, other = ((counts > 0).sum(axis=1) > 1 for _ in range(2))
    one[np.flatnonzero(one)[0]] = other[np.flatnonzero(other)[-1]] = False
    assert np.array_equal(flat[one], flat[other])
    assert not np.allclose(run(flat, one), run(flat, other))
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.skipif("CRYSTRATA_JARVIS" not in os.environ, reason="CRYSTRATA_JARVIS names no JARVIS parquet file")
@pytest.mark.parametrize("solver", SOLVERS)
def test_agrees_with_the_jarvis_hull(solver: Solver) -> None:
    columns = ["atomic_numbers", "formation_energy_peratom", "ehull_hull2021"]
    frame = pd.read_parquet(os.environ["CRYSTRATA_JARVIS"], columns=columns)
    counts = formula_counts(reduced_formula(numbers) for numbers in frame["atomic_numbers"])
    energies = frame["formation_energy_peratom"].to_numpy(np.float64)
    chosen = [atomic - 1 for atomic in (1, 3, 8, 9, 11, 13, 14, 16, 20, 26, 29, 31, 33)]
    inside = counts[:, chosen].sum(axis=1) == counts.sum(axis=1)  # closed under decomposition: the complete hull
    assert inside.sum() > 500
    above = energies[inside] - hull_energies(
        counts[inside], energies[inside], np.ones(inside.sum(), bool), solver=solver
    )
    known = frame["ehull_hull2021"].to_numpy(np.float64)[inside]
    assert np.corrcoef(above, known)[0, 1] > 0.999999
    assert np.abs(above - known).max() < 1e-4
    assert above.min() >= 0.0


def made_up(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random compounds of up to four of six elements (n, Z), energies (n,) [eV/atom], and a mask of two thirds."""
    random = np.random.default_rng(seed)
    columns = random.choice(np.arange(2, 90), size=6, replace=False)
    counts = np.zeros((80, MAX_ATOMIC_NUMBER), dtype=np.int32)
    for row in counts:
        some = random.choice(columns, size=random.integers(1, 5), replace=False)
        row[some] = random.integers(1, 6, size=len(some))
    energies = random.normal(-0.3, 0.5, size=len(counts)) - 0.2 * (counts > 0).sum(axis=1)
    return counts, energies, random.random(len(counts)) < 2 / 3


def plain_phase_diagram(counts: np.ndarray, energies: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Hull energies (n,) from one pymatgen phase diagram of all elements and all reference rows."""
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core.composition import Composition

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No Pauling electronegativity")
        compositions = [Composition({SYMBOLS[z]: int(row[z]) for z in np.flatnonzero(row)}) for row in counts]
        elements = [Composition(SYMBOLS[z]) for z in np.flatnonzero(counts.any(axis=0))]
        entries = [PDEntry(element, 0.0) for element in elements]
        for row in np.flatnonzero(reference):
            entries.append(PDEntry(compositions[row], energies[row] * counts[row].sum()))
        diagram = PhaseDiagram(entries)
        return np.array([diagram.get_hull_energy_per_atom(composition) for composition in compositions])


def test_derived_values_are_labels_where_known_and_need_a_hull_elsewhere() -> None:
    energy, ehull = PROPERTIES["formation_energy"], PROPERTIES["ehull"]
    values = {"formation_energy": np.array([-1.0, -2.0])}
    levels = {"ehull": Levels(np.ones(2), np.array([-1.5, -2.0]))}
    own = {"ehull": np.array([0.3, np.nan])}
    assert with_derived([energy], values, {}, own)["formation_energy"].tolist() == [-1.0, -2.0]
    assert with_derived([energy, ehull], values, levels, own)["ehull"][0] == 0.3
    found = with_derived([energy, ehull], values, levels)
    assert found["ehull"] == pytest.approx(levels["ehull"].above(values["formation_energy"]))
    with pytest.raises(ModelError, match="needs the convex hull of the training energies"):
        with_derived([energy, ehull], values, {})
