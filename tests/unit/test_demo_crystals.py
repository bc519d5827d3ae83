"""The demo crystals: real structures, physical labels, the same every time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from crystrata.jarvis_properties import PROPERTIES
from crystrata.sources.demo import open_demo
from crystrata.sources.demo.decorations import chemical_formula, decorate, decorations
from crystrata.sources.demo.labels import labels_of
from crystrata.sources.demo.prototypes import PROTOTYPES, Prototype
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal

LABELS = [column for record in PROPERTIES.values() for column in record.columns]


@pytest.fixture(scope="module")
def demo() -> CrystalTable:
    return open_demo()


@pytest.fixture(scope="module")
def crystals(demo: CrystalTable) -> list[Crystal]:
    return list(demo.crystals())


def value(demo: CrystalTable, name: str, column: str) -> float:
    """Return the label of the one crystal whose id ends in `name`, such as NaCl-rocksalt."""
    rows = demo.labels.loc[demo.labels.index.str.endswith(f"-{name}"), column]
    assert len(rows) == 1, f"{name} stands {len(rows)} times in the demo"
    return float(rows.iloc[0])


def moved(crystal: Crystal, lattice: np.ndarray) -> Crystal:
    return replace(crystal, lattice=lattice)


def symmetry_of(crystal: Crystal) -> tuple[int, bool]:
    """Return the space group and whether an operation is the inversion, from spglib alone."""
    import spglib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # spglib announces a change of its error handling
        cell = (crystal.lattice.tolist(), crystal.frac.tolist(), crystal.numbers.tolist())
        dataset = spglib.get_symmetry_dataset(cell, symprec=1e-4)
    assert dataset is not None, f"spglib finds no symmetry in {crystal.id}"
    return dataset.number, any(np.array_equal(rotation, -np.eye(3)) for rotation in dataset.rotations)


def test_size_and_marks(demo: CrystalTable, crystals: list[Crystal]) -> None:
    assert 450 <= len(demo) <= 600
    assert demo.demo
    assert demo.name == "demo"
    assert len(demo.digest) == 64
    assert demo.provenance == {"source": "demo", "rows": len(demo), "labels": "semi-empirical, not DFT"}
    assert [crystal.id for crystal in crystals] == demo.labels.index.tolist()
    assert demo.labels.index.is_unique
    assert demo.labels.index[0].startswith("demo-0001-")
    assert np.mean([len(crystal) for crystal in crystals]) <= 8
    assert len({number for crystal in crystals for number in crystal.numbers.tolist()}) >= 45
    assert [crystal.formula for crystal in crystals] == demo.labels["formula"].tolist()
    assert (demo.labels["orientation"] == "original").all()
    assert len(list(demo.crystals())) == len(demo), "the crystals can be opened again"


def test_every_prototype_is_used_once_per_elements() -> None:
    made = list(decorations())
    assert {prototype for prototype, _ in made} == set(PROTOTYPES)
    assert len(set(made)) == len(made)
    for prototype, elements in made:
        roles = {role for role, _ in PROTOTYPES[prototype].sites}
        assert len(set(elements)) == len(elements) == len(roles), (prototype, elements)


def test_formula_in_ids_is_the_chemists() -> None:
    assert chemical_formula("fluorite", ("Ca", "F")) == "CaF2"
    assert chemical_formula("antifluorite", ("Mg", "Si")) == "Mg2Si"
    assert chemical_formula("wurtzite", ("Zn", "O")) == "ZnO"
    assert chemical_formula("hcp", ("Mg",)) == "Mg"


def test_same_on_every_call_and_in_another_process(
    demo: CrystalTable, record_property: Callable[[str, object], None]
) -> None:
    start = time.process_time()
    again = open_demo()
    record_property("open_demo_cpu_seconds", round(time.process_time() - start, 2))  # reported, never asserted
    assert again.digest == demo.digest
    assert again.labels.equals(demo.labels)
    code = "from crystrata.sources.demo import open_demo; print(open_demo().digest)"
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == demo.digest


def test_every_property_is_labelled_within_its_bounds(demo: CrystalTable) -> None:
    labels = demo.labels[LABELS]
    assert (labels.dtypes == np.float64).all()
    assert np.isfinite(labels.to_numpy()).all()
    for record in PROPERTIES.values():
        columns = list(record.columns)
        if record.derived_from:
            continue
        if record.lower is not None:
            assert (labels[columns] >= record.lower).all(axis=None), record.name
        assert labels[columns[0]].nunique() > 50, f"{record.name} hardly varies"
    assert labels["formation_energy_peratom"].between(-8, 1).all()
    assert labels["optb88vdw_bandgap"].between(0, 12).all()
    assert labels["bulk_modulus_kv"].between(1, 600).all()
    assert labels["shear_modulus_gv"].between(1, 600).all()
    assert labels["dfpt_piezo_max_dij"].between(0, 50).all()
    assert labels["spillage"].between(0, 4).all()
    assert labels[["epsx", "epsy", "epsz"]].le(200).all(axis=None)
    gap, mbj = labels["optb88vdw_bandgap"], labels["mbj_bandgap"]
    assert ((mbj > gap) | (gap == 0)).all()
    assert (mbj[gap == 0] == 0).all()
    assert 0.2 < (gap == 0).mean() < 0.8, "metals and insulators both have their share"


def test_structures_are_physical(crystals: list[Crystal]) -> None:
    from pymatgen.core import Lattice, Structure

    for crystal in crystals:
        assert 2 < crystal.volume_per_atom < 200, crystal.id
        structure = Structure(Lattice(crystal.lattice), crystal.numbers.tolist(), crystal.frac)
        shortest = structure.get_neighbor_list(6.0)[3].min()
        assert 1.0 < shortest < 5.5, crystal.id


@pytest.mark.parametrize(
    ("name", "lattice_constant"),
    [("NaCl-rocksalt", 5.64), ("GaAs-zincblende", 5.65), ("MgO-rocksalt", 4.21), ("CaF2-fluorite", 5.46),
     ("C-diamond", 3.57), ("Cu-fcc", 3.61)],
)  # fmt: skip
def test_lattice_constants_are_near_the_measured(crystals: list[Crystal], name: str, lattice_constant: float) -> None:
    crystal = next(crystal for crystal in crystals if crystal.id.endswith(f"-{name}"))
    made = (4 * abs(np.linalg.det(crystal.lattice))) ** (1 / 3)  # all face-centred
    assert made == pytest.approx(lattice_constant, rel=0.04)


def test_symmetry_and_piezoelectricity(demo: CrystalTable, crystals: list[Crystal]) -> None:
    for crystal, piezo, expected in zip(
        crystals, demo.labels["dfpt_piezo_max_dij"], demo.labels["spacegroup"], strict=True
    ):
        spacegroup, inversion = symmetry_of(crystal)
        assert spacegroup == expected, crystal.id
        assert (piezo == 0.0) == inversion, f"{crystal.id}: d = {piezo}, inversion {inversion}"


def test_dielectric_follows_the_axes(demo: CrystalTable) -> None:
    labels = demo.labels
    cubic = labels["spacegroup"] >= 195
    assert np.allclose(labels.loc[cubic, "epsx"], labels.loc[cubic, "epsz"], atol=2e-6)
    assert np.allclose(labels["epsx"], labels["epsy"], atol=2e-6), "tetragonal, hexagonal and rhombohedral: two equal"
    assert value(demo, "BN-boronnitride", "epsx") > 1.2 * value(demo, "BN-boronnitride", "epsz")


def test_labels_turn_with_the_crystal(crystals: list[Crystal]) -> None:
    crystal = next(crystal for crystal in crystals if crystal.id.endswith("BN-boronnitride"))
    cyclic = np.roll(np.eye(3), 1, axis=1)  # x -> y -> z -> x
    before, after = labels_of(crystal), labels_of(moved(crystal, crystal.lattice @ cyclic))
    assert [after["epsy"], after["epsz"], after["epsx"]] == pytest.approx(
        [before["epsx"], before["epsy"], before["epsz"]], abs=2e-6
    )
    for column in set(before) - {"epsx", "epsy", "epsz"}:
        assert after[column] == pytest.approx(before[column], abs=2e-6), column


def test_labels_do_not_depend_on_the_choice_of_cell(crystals: list[Crystal]) -> None:
    for crystal in crystals[::60]:
        sheared = crystal.lattice.copy()
        sheared[1] += sheared[0]  # the same lattice from other vectors
        frac = crystal.frac.copy()
        frac[:, 0] -= frac[:, 1]
        doubled = replace(
            crystal,
            lattice=sheared * [[1], [1], [2]],
            numbers=np.tile(crystal.numbers, 2),
            frac=np.concatenate([frac, frac + np.array([0, 0, 1])]) / [1, 1, 2],
        )
        assert labels_of(doubled) == pytest.approx(labels_of(crystal), rel=1e-5, abs=2e-6), crystal.id


def test_labels_are_continuous(crystals: list[Crystal]) -> None:
    strain = np.eye(3) + 1e-3 * np.array([[1.0, 0.3, -0.2], [0.3, -0.5, 0.4], [-0.2, 0.4, 0.8]])
    rng = np.random.default_rng(0)
    for crystal in crystals[::4]:
        shifted = replace(crystal, frac=crystal.frac + 1e-4 * rng.standard_normal(crystal.frac.shape))
        before = labels_of(crystal)
        for after in (labels_of(moved(crystal, crystal.lattice @ strain)), labels_of(shifted)):
            for column, label in before.items():
                assert abs(after[column] - label) < 0.05 + 0.02 * abs(label), (crystal.id, column)


def test_polymorphs_share_a_formula(demo: CrystalTable) -> None:
    groups = demo.labels.groupby("formula")
    assert (groups.size() > 1).sum() > 100
    best = groups["ehull"].min()
    energy = groups["formation_energy_peratom"].min()
    assert (best[energy <= 0] == 0).all(), "the best structure of a stable formula is on the hull"
    assert (demo.labels["ehull"] > 0).sum() > 100
    assert value(demo, "NaCl-caesiumchloride", "ehull") > value(demo, "NaCl-rocksalt", "ehull") == 0


def test_elements_are_the_zero_of_energy(demo: CrystalTable) -> None:
    elemental = demo.labels["formula"].str.fullmatch(r"[A-Z][a-z]?")
    lowest = demo.labels[elemental].groupby("formula")["formation_energy_peratom"].min()
    assert len(lowest) > 40
    assert (lowest == 0).all()


@pytest.mark.parametrize(
    ("column", "order"),
    [
        ("bulk_modulus_kv", ["C-diamond", "Si-diamond", "Ge-diamond"]),
        ("bulk_modulus_kv", ["MgO-rocksalt", "LiF-rocksalt", "NaCl-rocksalt", "KI-rocksalt"]),
        ("shear_modulus_gv", ["C-diamond", "SiC-zincblende", "Si-diamond", "Pb-fcc"]),
        ("optb88vdw_bandgap", ["LiF-rocksalt", "NaCl-rocksalt", "ZnS-zincblende", "GaAs-zincblende", "Cu-fcc"]),
        ("mbj_bandgap", ["LiF-rocksalt", "MgO-rocksalt", "GaN-wurtzite", "InSb-zincblende"]),
        ("epsx", ["Si-diamond", "C-diamond", "NaCl-rocksalt"]),
        ("dfpt_piezo_max_dij", ["ZnO-wurtzite", "Si-diamond"]),
        ("spillage", ["Bi2Te3-tetradymite", "Bi2Se3-tetradymite", "Sb2Se3-tetradymite", "NaCl-rocksalt"]),
        ("formation_energy_peratom", ["GaAs-zincblende", "ZnS-zincblende", "MgO-rocksalt"]),
    ],
)
def test_known_orders(demo: CrystalTable, column: str, order: list[str]) -> None:
    values = [value(demo, name, column) for name in order]
    assert all(left > right for left, right in pairwise(values)), dict(zip(order, values, strict=True))


@pytest.mark.parametrize(
    ("name", "column", "measured", "within"),
    [
        ("C-diamond", "bulk_modulus_kv", 443, 0.15),
        ("Si-diamond", "bulk_modulus_kv", 98, 0.15),
        ("NaCl-rocksalt", "bulk_modulus_kv", 25, 0.15),
        ("Si-diamond", "epsx", 11.9, 0.15),
        ("NaCl-rocksalt", "epsx", 2.34, 0.15),
        ("LiF-rocksalt", "optb88vdw_bandgap", 8.9, 0.2),
        ("NaCl-rocksalt", "optb88vdw_bandgap", 5.1, 0.2),
        ("MgO-rocksalt", "formation_energy_peratom", -3.1, 0.3),
    ],
)
def test_labels_are_near_textbook_values(
    demo: CrystalTable, name: str, column: str, measured: float, within: float
) -> None:
    assert value(demo, name, column) == pytest.approx(measured, rel=within)


def test_metals_have_no_gap(demo: CrystalTable, crystals: list[Crystal]) -> None:
    metals = {"fcc", "bcc", "hcp", "coppergold", "laves", "heusler", "aluminiumdiboride"}
    chosen = [crystal.id for crystal in crystals if crystal.id.rsplit("-", 1)[1] in metals]
    assert len(chosen) > 100
    assert (demo.labels.loc[chosen, "optb88vdw_bandgap"] == 0).all()


def test_a_new_prototype_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOTYPES, "primitive", Prototype("primitive", 221, (("A", (0, 0, 0)),)))
    made = decorate("one", "primitive", ("Al",))
    assert len(made) == 1
    assert made.volume_per_atom == pytest.approx(4.05**3 / 4)
