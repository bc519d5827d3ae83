"""The reality check: the table of textbook crystals, the crystals, their DFT twins, and the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crystrata.datasets.splits import random_split
from crystrata.jarvis_properties import get_property, property_tasks
from crystrata.networks.config import NetworkConfig
from crystrata.networks.model_folder import write_model_folder
from crystrata.networks.network import Network
from crystrata.networks.training_record import TrainingRecord
from crystrata.networks.weights import pack_network
from crystrata.prediction.trained_model import TrainedModel
from crystrata.sources.demo.decorations import chemical_formula
from crystrata.structures.crystal import Crystal
from reality import compare, main
from reality_crystals import MEASURED, SOURCE_OF, crystal_of, read_sources, read_table, spacegroups
from reality_labels import DFTLabels, find_labels
from reality_offsets import Comparison, explained, offset_table

NAMES = tuple(MEASURED)
ATOMIC_MASS = 1.66054  # [g/cm^3] of one unit in one A^3


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return read_table()


@pytest.fixture(scope="module")
def crystals(table: pd.DataFrame) -> list[Crystal]:
    return [crystal_of(row) for row in table.itertuples()]


@pytest.fixture
def model(tmp_path: Path) -> TrainedModel:
    network = Network(NetworkConfig(property_tasks(NAMES), "cgcnn", {"channels": 8, "layers": 1})).eval()
    facts = {"properties": list(NAMES), "source": {"digest": "another", "demo": False}, "split_digest": "0" * 64}
    return TrainedModel(network, tmp_path, facts)


def jarvis_of(crystals: list[Crystal], table: pd.DataFrame, file: Path) -> Path:
    """Write crystals as a JARVIS file, 3 % larger, with the measured values as labels."""
    frame = pd.DataFrame(
        {
            "jid": [f"JVASP-{row}" for row in range(len(crystals))],
            "lattice": [(crystal.lattice * 1.01).ravel() for crystal in crystals],
            "atomic_numbers": [crystal.numbers for crystal in crystals],
            "frac_coords": [crystal.frac.ravel() for crystal in crystals],
            "spg": spacegroups(table),
        }
    )
    for name in NAMES:
        for column in get_property(name).columns:
            frame[column] = table[MEASURED[name]].astype(float)
    frame.to_parquet(file)
    return file


def test_the_table_is_large_enough(table: pd.DataFrame) -> None:
    counts = table.notna().sum()
    assert counts["a"] >= 36
    assert min(counts["gap"], counts["bulk_modulus"], counts["dielectric"]) >= 30
    assert (table["gap"] > 0).sum() >= 36
    assert not table["name"].duplicated().any()
    assert (table["dielectric"].isna() | (table["gap"] != 0)).all(), "a metal has no dielectric constant"


def test_every_number_has_a_source_and_every_source_is_used(table: pd.DataFrame) -> None:
    sources = read_sources()
    for column, source in SOURCE_OF.items():
        assert (table[column].notna() == table[source].notna()).all(), column
    used = {key for source in SOURCE_OF.values() for key in table[source].dropna()}
    assert used == set(sources)
    timeless = table["gap"].isna() | (table["gap_source"] == "metal")
    assert (table["gap_temperature"].isna() == timeless).all()


def test_crystals_have_formula_density_and_bonds_of_their_own(table: pd.DataFrame, crystals: list[Crystal]) -> None:
    from ase import Atoms
    from ase.data import atomic_masses
    from ase.data import covalent_radii as radii
    from ase.neighborlist import neighbor_list

    for row, crystal in zip(table.itertuples(), crystals, strict=True):
        symbols = tuple(pd.Series(row.formula).str.findall("[A-Z][a-z]?")[0])
        assert chemical_formula(row.prototype, symbols) == row.formula
        atoms = Atoms(numbers=crystal.numbers, cell=crystal.lattice, scaled_positions=crystal.frac, pbc=True)
        if np.isfinite(row.density):
            density = atomic_masses[crystal.numbers].sum() / atoms.get_volume() * ATOMIC_MASS
            assert density == pytest.approx(row.density, rel=0.03), row.name
        first, second, length = neighbor_list("ijd", atoms, 4.2)
        shortest = (length / (radii[crystal.numbers[first]] + radii[crystal.numbers[second]])).min()
        assert 0.75 < shortest < 1.3, row.name


def test_internal_parameters_are_those_of_the_table(table: pd.DataFrame, crystals: list[Crystal]) -> None:
    heights = dict(zip(table["name"], crystals, strict=True))["aluminium nitride"].frac[:, 2]
    assert np.isclose(heights[:, None] - heights, 0.382).any()
    atoms = dict(zip(table["name"], crystals, strict=True))["rutile"]
    assert np.isclose(atoms.frac[atoms.numbers == 8], [0.305, 0.305, 0.0]).all(axis=1).any()


@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")
def test_space_groups_are_those_of_the_structures(table: pd.DataFrame, crystals: list[Crystal]) -> None:
    from spglib import get_symmetry_dataset

    for crystal, number in zip(crystals, spacegroups(table), strict=True):
        found = get_symmetry_dataset((crystal.lattice, crystal.frac, crystal.numbers), symprec=1e-3)
        assert found.number == number, crystal.id


def test_labels_and_parts_are_those_of_the_twins(
    table: pd.DataFrame, crystals: list[Crystal], model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crystrata.sources.jarvis import open_data_file

    file = jarvis_of(crystals, table, tmp_path / "jarvis.parquet")
    source = open_data_file(file, cache_dir=tmp_path / "jarvis")
    split = random_split(source.labels["formula"].tolist(), seed=42)
    model.facts["source"]["digest"] = source.digest
    model.facts["split_digest"] = split.as_dict(source.labels.index.tolist())["digest"]
    monkeypatch.setattr("reality_labels.LIKELY_SPLITS", ("by-chemical-system", "random"))
    labels = find_labels(crystals, spacegroups(table), NAMES, model, file, tmp_path)
    assert labels.ids == source.labels.index.tolist()
    assert labels.protocol == "random"
    words = {"train": "trained", "val": "validation", "test": "left out"}
    for part, word in words.items():
        assert np.flatnonzero(np.array(labels.parts) == word).tolist() == split.part(part).tolist()
    for name in NAMES:
        np.testing.assert_allclose(labels.values[name], table[MEASURED[name]])

    model.facts["source"]["digest"] = "another"
    unknown = find_labels(crystals, spacegroups(table), NAMES, model, file, tmp_path)
    assert (set(unknown.parts), unknown.protocol) == ({"-"}, "")


def test_another_volume_or_space_group_is_no_twin(
    table: pd.DataFrame, crystals: list[Crystal], model: TrainedModel, tmp_path: Path
) -> None:
    file = jarvis_of(crystals, table, tmp_path / "jarvis.parquet")
    groups = spacegroups(table)
    swollen = Crystal.create("swollen", crystals[0].lattice * 1.1, crystals[0].numbers, crystals[0].frac)
    labels = find_labels([swollen, crystals[1]], [groups[0], 1], NAMES, model, file, tmp_path)
    assert labels.ids == ["-", "-"]
    assert labels.values.isna().all(axis=None)


def test_offsets_leave_out_metals_and_gaps_in_the_table() -> None:
    table = pd.DataFrame({"name": ["a", "b", "c"], "gap": [2.0, 4.0, 0.0]})
    measured = pd.DataFrame({"band_gap": [2.0, 4.0, 0.0], "dielectric": [10.0, np.nan, np.nan]})
    predicted = pd.DataFrame({"band_gap": [1.0, 5.0, 3.0], "dielectric": [12.0, 3.0, 90.0]})
    labels = pd.DataFrame({"band_gap": [1.0, 0.0, 0.0], "dielectric": [15.0, 4.0, 70.0]})
    result = Comparison(table, measured, predicted, DFTLabels(["x"] * 3, labels, ["-"] * 3))
    rows = offset_table(result).set_index(["property", "offset"])
    assert rows.loc[("band_gap [eV]", "model - experiment")].tolist() == [2, 0.0, -12.5, 1.0]
    assert rows.loc[("band_gap [eV]", "DFT - experiment")].tolist() == [2, -2.5, -75.0, 2.5]
    assert rows.loc[("dielectric", "model - DFT")].tolist() == [1, -3.0, -20.0, 3.0]
    words = explained(result)
    assert "2 of 2 gaps are below experiment" in words
    assert "run from 70 to 70, the predictions\nfrom 90 to 90" in words


def test_the_page_is_made_in_one_command(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CRYSTRATA_JARVIS", raising=False)
    network, nothing = model.network, TrainingRecord.of([], [], {})
    write_model_folder(tmp_path, pack_network(network, network.state_dict(), model.facts, nothing), {})
    page = tmp_path / "reality.md"
    assert main(["--model", str(tmp_path), "--output", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "No DFT labels" in text
    assert "| silicon, Si | diamond | - | - | 1.12 |" in text
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert main(["--model", str(tmp_path / "nothing"), "--output", str(page)]) == 2
    assert "error: " in capsys.readouterr().err


def test_dft_labels_are_off_as_the_page_says(jarvis_file: Path, model: TrainedModel, tmp_path: Path) -> None:
    result = compare(model, read_table(), jarvis_file, tmp_path)
    assert sum(id != "-" for id in result.labels.ids) >= 70
    rows = offset_table(result).set_index(["property", "offset"])["median offset [%]"]
    assert -50 < rows[("band_gap [eV]", "DFT - experiment")] < -30
    assert -15 < rows[("band_gap_mbj [eV]", "DFT - experiment")] < 5
    assert abs(rows[("bulk_modulus [GPa]", "DFT - experiment")]) < 5
    assert rows[("dielectric", "DFT - experiment")] > 10
