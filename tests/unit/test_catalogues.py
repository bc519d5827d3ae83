"""Catalogues of tasks over the JARVIS table by composition, and labels that are generated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crystrata.datasets.catalogues import CATALOGUES, PHONON_DOS, catalogue_tasks, composition_table
from crystrata.datasets.generated_labels import TEMPERATURES, generated_labels
from crystrata.errors import DataError, UsageError
from crystrata.sources.jarvis import open_data_file
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal
from crystrata.tasks import parse_tasks


def columns_of(name: str, *, curves: bool = False) -> list[str]:
    tasks = catalogue_tasks(name, curves=curves)
    return [task[key] for task in tasks for key in ("data_column", "t_column") if key in task]


def crystal(name: str, numbers: list[int], side: float) -> Crystal:
    return Crystal.create(name, np.eye(3) * side, numbers, np.linspace(0, 0.5, len(numbers))[:, None] * np.ones(3))


@pytest.fixture
def table() -> CrystalTable:
    """Two polymorphs of FeO, and copper."""
    crystals = [crystal("one", [26, 8], 3.0), crystal("two", [26, 8, 26, 8], 4.0), crystal("three", [29], 2.3)]
    labels = pd.DataFrame(
        {
            "formation_energy_peratom": [-1.0, -1.5, 0.0],
            "optb88vdw_bandgap": [0.0, 2.0, 0.0],
            "mbj_bandgap": [0.5, 2.5, np.nan],
            "spacegroup": [225, 194, 0],
            "formula": [one.formula for one in crystals],
        },
        index=pd.Index([one.id for one in crystals], name="id"),
    )
    return CrystalTable("small", "0", labels, lambda: iter(crystals))


def test_catalogues_have_eleven_and_twenty_four_tasks() -> None:
    sizes = {name: len(parse_tasks(catalogue_tasks(name))) for name in CATALOGUES}
    assert sizes == {"demo": 11, "full": 24}
    demo, full = ([task["name"] for task in catalogue_tasks(name)] for name in CATALOGUES)
    assert set(demo) < set(full)
    for name in CATALOGUES:
        assert {"regression", "classification", "curve"} == {task["kind"] for task in catalogue_tasks(name)}
        generated = [task for task in catalogue_tasks(name) if task["name"].startswith("generated_")]
        assert all(task["data_column"] == task["name"] for task in generated)
    assert catalogue_tasks("demo", curves=True)[0] == PHONON_DOS
    with pytest.raises(UsageError, match="did you mean 'full'"):
        catalogue_tasks("fulll")


def test_the_polymorph_of_lowest_energy_stands_for_a_composition(table: CrystalTable) -> None:
    wanted = ["formation_energy_peratom", "metal", "crystal_system", "gap_correction", "volume_per_atom", "density"]
    found = composition_table(table, [*wanted, "atoms_in_cell"]).set_index("composition")
    assert found.index.tolist() == ["Cu", "FeO"]
    iron = found.loc["FeO"]
    assert iron[wanted[:4]].tolist() == [-1.5, "other", "hexagonal", 0.5]
    assert (iron["volume_per_atom"], iron["atoms_in_cell"]) == (pytest.approx(16), 4)
    assert iron["density"] == pytest.approx((55.845 + 15.999) / 2 * 1.66054 / 16, rel=1e-4)
    assert found.loc["Cu", "metal"] == "metal"
    assert pd.isna(found.loc["Cu", "crystal_system"])


def test_curves_join_by_crystal(table: CrystalTable, tmp_path: Path) -> None:
    file = tmp_path / "curves.parquet"
    pd.DataFrame({"jid": ["one", "two", "elsewhere"], "ph_dos": [[1.0] * 66, [2.0] * 66, [3.0] * 66]}).to_parquet(file)
    found = composition_table(table, ["ph_dos", "wavenumber"], curves_file=str(file)).set_index("composition")
    assert found.loc["FeO", "ph_dos"][0] == 2.0
    assert found.loc["FeO", "wavenumber"][[0, -1]].tolist() == [-300.0, 1000.0]
    assert pd.isna(found.loc["Cu", "ph_dos"])


def test_a_column_that_is_nowhere_is_named(table: CrystalTable) -> None:
    with pytest.raises(UsageError, match="unknown label column of small 'spilage'"):
        composition_table(table, ["spilage"])
    with pytest.raises(DataError, match="by which one of several polymorphs is chosen"):
        composition_table(replace(table, labels=table.labels.drop(columns="formation_energy_peratom")), [])


def test_the_real_table_has_every_label_and_fewer_are_part_of_more(jarvis_file: Path, tmp_path: Path) -> None:
    crystals = open_data_file(jarvis_file, cache_dir=tmp_path)
    some, more = (composition_table(crystals, columns_of("full"), most=most) for most in (500, 900))
    assert len(some) == 500
    assert set(some["composition"]) < set(more["composition"])
    assert (more.drop(columns="composition").notna().sum() > 20).all()
    for task in catalogue_tasks("full"):
        if task["kind"] == "classification":
            assert set(more[task["data_column"]].dropna()) == set(task["classes"])


def test_generated_labels_follow_their_formulas() -> None:
    formulas = ["Si", "NaCl", "Cu", "Cu3Au"]
    assert generated_labels("generated_melting_point", formulas)[[0, 2]].tolist() == [1687.0, pytest.approx(1357.77)]
    ionic = generated_labels("generated_ionicity", formulas)
    assert ionic.tolist() == pytest.approx([0, 1 - np.exp(-((3.16 - 0.93) ** 2) / 4), 0, 1 - np.exp(-(0.64**2) / 4)])
    assert generated_labels("generated_block", [*formulas, "UO2", "U", "He", "La2O3", "LuAu"]).tolist() == [
        "p", "s", "d", "d", "p", "f", "s", "p", "d"
    ]  # fmt: skip
    assert generated_labels("generated_size_mismatch", ["Si", "NaCl"]).tolist() == pytest.approx(
        [0, 100 * (1.8 - 1.0) / (1.8 + 1.0)]
    )


def test_the_heat_capacity_is_that_of_debye() -> None:
    theta = generated_labels("generated_debye_temperature", ["Cu"])[0]
    curve = generated_labels("generated_heat_capacity", ["Cu"])[0]
    u = (np.arange(200_000) + 0.5) / 200_000  # the midpoint rule, far finer than needed
    for place in (0, 10, 29):
        upper = theta / TEMPERATURES[place]
        x = u * upper
        integral = (x**4 * np.exp(x) / np.expm1(x) ** 2).mean() * upper
        assert curve[place] == pytest.approx(3 * integral / upper**3, rel=1e-6)
    assert (np.diff(curve) > 0).all()
    assert curve[-1] < 1
