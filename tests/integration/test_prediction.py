"""A trained model meets structure files: the same crystal has the same properties, whatever its file and company."""

from __future__ import annotations

import io
import weakref
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crystrata.cli.predict import main
from crystrata.elements import SYMBOLS
from crystrata.jarvis_properties import NINE, get_property, properties
from crystrata.prediction.predict import predict_files, predict_materials
from crystrata.prediction.trained_model import TrainedModel, load_model
from crystrata.runs.directory import BEST, PREDICTIONS
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal, Rejected
from crystrata.structures.readers import read_crystals

NAMES = ("quartz", "silicon", "strontium_titanate", "rock_salt", "gallium_arsenide", "barium_titanate")  # no sorting
FORMULAS = ("O2Si", "Si", "O3SrTi", "ClNa", "AsGa", "BaO3Ti")
COLUMNS = [record.column for record in properties(NINE)]
Predict = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def cifs(root: Path) -> list[Path]:
    """The six examples, in an order of their own."""
    return [root / "examples" / "cifs" / f"{name}.cif" for name in NAMES]


@pytest.fixture(scope="module")
def model(lite_run: Path) -> TrainedModel:
    """The trained lite model."""
    return load_model(lite_run, "cpu")


@pytest.fixture(scope="module")
def together(model: TrainedModel, cifs: list[Path]) -> pd.DataFrame:
    """The six examples predicted at once."""
    return predict_files(model, cifs)


@pytest.fixture
def predict(lite_run: Path, tmp_path: Path) -> Predict:
    """Predicts with the lite run; returns the table that it writes."""

    def call(*flags: object) -> pd.DataFrame:
        output = tmp_path / "table.csv"
        code = main([*map(str, flags), "--model", str(lite_run), "--output", str(output), "--device", "cpu"])
        assert code == 0
        return pd.read_csv(output)

    return call


def values(table: pd.DataFrame) -> np.ndarray:
    return table[COLUMNS].to_numpy(dtype=float)


def test_the_six_examples(predict: Predict, cifs: list[Path]) -> None:
    table = predict("--cif", *cifs)
    assert table["id"].tolist() == list(NAMES)
    assert table["formula"].tolist() == list(FORMULAS)
    assert [column for column in table if column in COLUMNS] == COLUMNS
    assert "formation_energy [eV/atom]" in table
    assert "dielectric" in table  # a pure number has no unit
    assert np.isfinite(values(table)).all()
    assert table["error_code"].isna().all()
    assert set(table["model"]) == {"DEMO: labels are not DFT"}


def test_predictions_are_physical(together: pd.DataFrame) -> None:
    for record in properties(NINE):
        column = together[record.column]
        assert record.lower is None or (column >= record.lower).all(), record.name
    assert together["formation_energy [eV/atom]"].abs().max() < 20
    assert len(set(together["formation_energy [eV/atom]"].round(6))) == 6


def test_one_at_a_time_is_as_all_at_once(model: TrainedModel, cifs: list[Path], together: pd.DataFrame) -> None:
    for row, cif in enumerate(cifs):
        alone = predict_files(model, [cif])
        assert len(alone) == 1
        np.testing.assert_allclose(values(alone)[0], values(together)[row], rtol=1e-4, atol=1e-4)


def test_order_and_chunks_do_not_matter(
    model: TrainedModel, cifs: list[Path], together: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crystrata.prediction.predict._CHUNK", 4)
    seen: list[int] = []
    backwards = predict_files(model, cifs[::-1] + cifs, progress=seen.append)
    assert backwards["id"].tolist() == [*NAMES[::-1], *NAMES]
    assert seen == [4, 8, 12]
    np.testing.assert_allclose(values(backwards)[:6][::-1], values(together), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(values(backwards)[6:], values(together), rtol=1e-4, atol=1e-4)


def test_the_columns_are_the_models_whatever_the_inputs_are(
    model: TrainedModel, cifs: list[Path], together: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crystrata.prediction.predict._CHUNK", 2)
    mixed = predict_files(model, ["gone.cif", "lost.cif", *cifs[:2]])
    assert mixed.columns.tolist() == together.columns.tolist()
    assert together.columns[-3:].tolist() == ["warning", "error_code", "error"]
    assert "dielectric principal 1" in together
    assert mixed.dtypes.tolist() == together.dtypes.tolist()
    for inputs in (["gone.cif"], []):
        assert predict_files(model, inputs).columns.tolist() == together.columns.tolist()


def test_only_a_chunk_is_in_memory_at_once(
    model: TrainedModel, cifs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded in atoms, so that large cells make smaller chunks."""
    cells = [item for item in read_crystals(cifs) if isinstance(item, Crystal)]
    sizes = [len(cell) for cell in cells]
    made: list[weakref.ref[Crystal]] = []
    most = 0

    def fresh(_: object, **how: object) -> Iterator[Crystal]:
        nonlocal most
        for cell in cells * 5:
            crystal = replace(cell)
            made.append(weakref.ref(crystal))
            most = max(most, sum(len(one) for ref in made if (one := ref()) is not None))
            yield crystal
            del crystal

    bound = sum(sizes[:2])
    monkeypatch.setattr("crystrata.prediction.predict.read_crystals", fresh)
    monkeypatch.setattr("crystrata.prediction.predict._CHUNK_ATOMS", bound)
    table = predict_files(model, [])
    assert table["id"].tolist() == [cell.id for cell in cells] * 5
    assert most <= 2 * bound + max(sizes)  # the chunk before, the chunk being read, the crystal that ends it
    assert most < sum(sizes) * 5 / 4


def poscar(crystal: Crystal, path: Path) -> Path:
    """Write a crystal as POSCAR: a lattice matrix and species in the order of the file."""
    species = [SYMBOLS[number - 1] for number in crystal.numbers]
    lattice, frac = (
        "\n".join(" ".join(f"{x:.12f}" for x in row) for row in array) for array in (crystal.lattice, crystal.frac)
    )
    counts = " ".join("1" for _ in species)
    path.write_text(f"{crystal.id}\n1.0\n{lattice}\n{' '.join(species)}\n{counts}\nDirect\n{frac}\n")
    return path


def test_a_cif_and_a_poscar_of_one_crystal_agree(
    predict: Predict, cifs: list[Path], together: pd.DataFrame, tmp_path: Path
) -> None:
    crystals = [item for item in read_crystals(cifs) if isinstance(item, Crystal)]
    turned = np.linalg.qr(np.array([[1.0, 2, 3], [0, 1, 4], [5, 6, 0]]))[0]  # a POSCAR may lie in space as it likes
    files = [
        poscar(replace(crystal, lattice=crystal.lattice @ turned), tmp_path / f"{crystal.id}.vasp")
        for crystal in crystals
    ]
    table = predict("--cif", *files)
    assert table["id"].tolist() == list(NAMES)
    np.testing.assert_allclose(values(table), values(together), rtol=1e-4, atol=1e-4)


def test_a_primitive_cell_and_a_supercell_agree(model: TrainedModel, cifs: list[Path]) -> None:
    silicon = next(iter(read_crystals(cifs[1])))
    assert isinstance(silicon, Crystal)
    shifts = np.array([[0, 0, 0], [1, 0, 0]])
    double = Crystal.create(
        "double",
        silicon.lattice * np.array([[2], [1], [1]]),
        np.tile(silicon.numbers, 2),
        np.concatenate([(silicon.frac + shift) / [2, 1, 1] for shift in shifts]),
    )
    table = predict_materials(model, [silicon, double])
    assert table["formula"].tolist() == ["Si", "Si"]
    np.testing.assert_allclose(values(table)[0], values(table)[1], rtol=1e-4, atol=1e-4)


def test_a_broken_file_in_the_middle_is_a_row_of_its_own(
    predict: Predict, cifs: list[Path], together: pd.DataFrame, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.cif"
    broken.write_text("data_broken\n_cell_length_a 5\n")
    files = [*cifs[:2], broken, cifs[2], tmp_path / "gone.cif", *cifs[3:]]
    table = predict("--cif", *files)
    assert table["id"].tolist() == [*NAMES[:2], "broken", NAMES[2], "gone", *NAMES[3:]]
    failed = table[table["error_code"].notna()]
    assert failed.index.tolist() == [2, 4]
    assert failed["error_code"].tolist()[1] == "not_found"
    assert failed["error"].str.len().min() > 10
    assert np.isnan(values(failed)).all()
    whole = table[table["error_code"].isna()]
    np.testing.assert_allclose(values(whole), values(together), rtol=1e-4, atol=1e-4)


def test_a_crystal_that_has_no_graph_is_a_row_too(
    model: TrainedModel, together: pd.DataFrame, cifs: list[Path]
) -> None:
    """Refused after reading, between two good ones: their values, the hull included, stay in their rows."""
    quartz, silicon = read_crystals(cifs[:2])
    doubled = Crystal.create("doubled", 5.0 * np.eye(3), [11, 17], [(0.1, 0.2, 0.3), (0.1, 0.2, 0.3)])
    table = predict_materials(model, [quartz, doubled, Rejected("bad", "empty", "no atoms"), silicon])
    assert table["id"].tolist() == ["quartz", "doubled", "bad", "silicon"]
    assert table["error_code"].tolist() == ["", "overlapping", "empty", ""]
    assert np.isnan(values(table)[1:3]).all()
    np.testing.assert_allclose(values(table)[[0, 3]], values(together)[:2], rtol=1e-4, atol=1e-4)


def test_an_atom_alone_has_finite_values_and_a_warning(model: TrainedModel) -> None:
    table = predict_materials(model, [Crystal.create("alone", 60 * np.eye(3), [14], [(0, 0, 0)])])
    assert np.isfinite(values(table)).all()
    assert "atoms stand apart" in table["warning"][0]


def test_an_element_that_was_never_trained_on_is_named(model: TrainedModel) -> None:
    unseen = next(number for number in range(89, 104) if SYMBOLS[number - 1] not in model.facts["elements"])
    crystal = Crystal.create("x", 4.0 * np.eye(3), [unseen], [(0, 0, 0)])
    warning = predict_materials(model, [crystal])["warning"][0]
    assert f"elements never trained on: {SYMBOLS[unseen - 1]}" in warning


def test_a_zip_gives_its_members(predict: Predict, cifs: list[Path], together: pd.DataFrame, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for cif in cifs[:2]:
            archive.write(cif, cif.name)
    table = predict("--cif", tmp_path / "some.zip")
    assert sorted(table["id"]) == ["quartz", "silicon"]
    by_id = table.set_index("id").loc[list(NAMES[:2])]
    np.testing.assert_allclose(values(by_id), values(together)[:2], rtol=1e-4, atol=1e-4)


def test_a_test_crystal_is_predicted_as_training_reported(
    model: TrainedModel, lite_run: Path, demo: CrystalTable
) -> None:
    """Through the graph store in training, through a list of crystals here: the same numbers."""
    written = pd.read_csv(io.StringIO((lite_run / PREDICTIONS).read_text()), comment="#")
    crystals = {crystal.id: crystal for crystal in demo.crystals()}
    table = predict_materials(model, [crystals[id] for id in written["id"]])
    for name in NINE:
        title = get_property(name).column
        np.testing.assert_allclose(table[title], written[f"predicted {title}"], rtol=1e-4, atol=1e-4)


def test_a_cgcnn_run_predicts_its_own_four(cgcnn_run: Path, cifs: list[Path]) -> None:
    model = load_model(cgcnn_run / BEST, "cpu")  # a weights file is as good as its directory
    table = predict_files(model, cifs)
    wanted = [record.column for record in properties(model.properties)]
    assert len(wanted) == 4
    assert [column for column in table if column in COLUMNS] == wanted
    assert np.isfinite(table[wanted].to_numpy(dtype=float)).all()


def test_nothing_in_is_nothing_out(model: TrainedModel) -> None:
    table = predict_files(model, [])
    assert len(table) == 0
    assert set(COLUMNS) <= set(table.columns)
