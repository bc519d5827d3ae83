"""Element features and descriptor sources: the file is what its maker makes; one interface for all sources."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crystrata.compositions import element_features
from crystrata.compositions.descriptors import (
    CachedDescriptors,
    DescriptorSource,
    Joined,
    KernelMean,
    Matminer,
    PrecomputedDescriptors,
    Statistics,
    composition_statistics,
    describe_valid,
    descriptor_source,
)
from crystrata.compositions.element_features import FILE, element_features_csv, load_element_features
from crystrata.compositions.keys import weights
from crystrata.elements import SYMBOLS
from crystrata.errors import DataError, InputError, UsageError

KEYS = ["Fe2O3", "sample 1", "AsGa", "D2O", "AsGa", "Lr", ""]
VALID = [True, False, True, False, True, True, False]


def feature(name: str) -> dict[str, float]:
    """One feature by element symbol."""
    table = load_element_features()
    return dict(zip(SYMBOLS, table.values[:, table.names.index(name)].tolist(), strict=True))


def test_the_table_is_whole() -> None:
    table = load_element_features()
    assert table.values.shape == (103, len(table.names))
    assert 20 <= len(table.names) <= 40
    assert len(set(table.names)) == len(table.names)
    assert np.isfinite(table.values).all()
    assert (np.ptp(table.values, axis=0) > 0).all()
    assert len(np.unique(table.values, axis=0)) == 103
    assert len(table.digest) == 64


def test_known_values() -> None:
    assert feature("Z")["Fe"] == 26
    assert feature("X")["F"] == 3.98
    assert feature("atomic_mass")["O"] == pytest.approx(15.9994)
    assert feature("log10_electrical_resistivity")["Cu"] == pytest.approx(np.log10(1.678e-8), rel=1e-4)
    assert [feature(f"{shell}_electrons")["Fe"] for shell in "spdf"] == [2, 0, 6, 0]
    assert [feature(f"{shell}_electrons")["Gd"] for shell in "spdf"] == [2, 0, 1, 7]


def test_gaps_are_filled_from_the_periodic_neighbours() -> None:
    electronegativity, fill = feature("X"), element_features._filled
    assert electronegativity["Ar"] == electronegativity["Ne"] == electronegativity["Kr"] == 3.0
    rows, columns = np.array([1, 1, 2, 2, 3, 3]), np.array([1, 2, 1, 2, 1, 2])
    gap = np.nan
    np.testing.assert_array_equal(fill(np.array([1, 5, gap, 7, 4, gap]), rows, columns), [1, 5, 2.5, 7, 4, 7])
    np.testing.assert_array_equal(fill(np.array([gap, 5, gap, 7, gap, gap]), rows, columns), [5, 5, 7, 7, 7, 7])
    np.testing.assert_array_equal(fill(np.array([gap] * 5 + [9.0]), rows, columns), [9] * 6)


def test_the_file_is_what_its_maker_makes() -> None:
    text = FILE.read_text(encoding="utf-8")
    if version("pymatgen-core") not in text.splitlines()[0]:
        pytest.skip("made with another version of pymatgen-core")
    assert element_features_csv() == text


def test_the_file_goes_into_the_wheel(root: Path) -> None:
    wheel = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert any(FILE.is_relative_to(root / folder) for folder in wheel["wheel"]["only-include"])
    asked = subprocess.run(["git", "check-ignore", "-q", str(FILE)], cwd=root)
    assert asked.returncode != 0


@pytest.mark.parametrize("damage", ["missing", "a line less", "no number"])
def test_a_damaged_table_is_refused(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FILE.read_text(encoding="utf-8")
    file = tmp_path / "features.csv"
    if damage != "missing":
        file.write_text(text[: text.index("\nLr,")] if damage == "a line less" else text.replace("Fe,26", "Fe,many"))
    monkeypatch.setattr(element_features, "FILE", file)
    with pytest.raises(DataError, match="install crystrata again"):
        load_element_features.__wrapped__()


def test_statistics_by_hand() -> None:
    features = np.array([[1.0, -4.0], [3.0, 1000.0], [5.0, 2.0]])
    found = composition_statistics(np.array([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]]), features)
    np.testing.assert_allclose(found[0], [2.5, 749.0, 0.75, 0.25 * 753**2 + 0.75 * 251**2, 3.0, 1000.0, 1.0, -4.0])
    np.testing.assert_allclose(found[1], [5, 2, 0, 0, 5, 2, 5, 2])
    assert composition_statistics(np.zeros((0, 3)), features).shape == (0, 8)
    with pytest.raises(InputError, match="composition 1 has no element"):
        composition_statistics(np.array([[1.0, 0, 0], [0, 0, 0]]), features)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A csv of descriptors by formula, the index first."""
    path = tmp_path / "table.csv"
    path.write_text("formula,a,b\nFe2O3,1,2\nGaAs,3,4\nLr,5,6\nNaN,7,8\nSiC,,9\n,1,1\nO3Fe2,1,2\n")
    return path


SOURCES = ["kernel mean", "kernel mean nd", "statistics", "table", "cached", "joined"]


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, table: Path) -> DescriptorSource:
    """Each kind of source."""
    made: dict[str, DescriptorSource] = {
        "kernel mean": KernelMean(),
        "kernel mean nd": KernelMean(form="nd"),
        "statistics": Statistics(),
        "table": PrecomputedDescriptors(table),
        "cached": CachedDescriptors(KernelMean()),
        "joined": Joined([{"kind": "kernel_mean"}, {"kind": "statistics"}]),
    }
    return made[request.param]


def test_all_sources_keep_the_contract(source: DescriptorSource) -> None:
    found, valid = source.describe(KEYS)
    assert valid.tolist() == VALID
    assert found.dtype == np.float32
    assert found.shape == (len(KEYS), len(source.names))
    assert len(set(source.names)) == len(source.names)
    assert len(source.digest) == 64
    assert not found[~valid].any()
    np.testing.assert_array_equal(found[2], found[4])
    order = [3, 5, 0, 1]
    np.testing.assert_allclose(source.describe([KEYS[row] for row in order])[0], found[order], rtol=1e-5, atol=1e-7)
    nothing, none_valid = source.describe([])
    assert (nothing.shape, none_valid.shape) == ((0, len(source.names)), (0,))


def test_names_say_what_a_column_is() -> None:
    row, names = Statistics().describe(["Fe2O3"])[0][0], Statistics().names
    assert row[names.index("max Z")] == 26
    assert row[names.index("mean atomic_mass")] == pytest.approx((2 * 55.845 + 3 * 15.9994) / 5)
    kernel = KernelMean()
    column = kernel.kernel.matrix[:, kernel.names.index("Z[7]")]
    assert SYMBOLS[column.argmax()] == "Lr"
    likeness = KernelMean(form="nd")
    assert likeness.describe(["Ho"])[0][0][likeness.names.index("like Ho")] == 1.0


def test_joined_sources_stand_side_by_side(table: Path) -> None:
    joined = Joined([{"kind": "statistics"}, {"kind": "table", "path": table}])
    statistics, own = Statistics(), PrecomputedDescriptors(table)
    keys = ["Fe2O3", "ClNa", "AsGa"]
    found, valid = joined.describe(keys)
    assert valid.tolist() == [True, False, True]  # the table does not know ClNa
    np.testing.assert_array_equal(found[valid, : len(statistics.names)], statistics.describe(keys)[0][valid])
    np.testing.assert_array_equal(found[valid, -len(own.names) :], own.describe(keys)[0][valid])
    with pytest.raises(InputError, match="need a source"):
        Joined([])
    with pytest.raises(UsageError, match="did you mean 'statistics'"):
        Joined([{"kind": "statistic"}])


def test_kernel_mean_descriptors_are_turned_back() -> None:
    source = KernelMean()
    found, _ = source.kernel.inverse(source.describe(["Fe2O3", "AsGa"])[0])
    np.testing.assert_allclose(found, weights(["Fe2O3", "AsGa"]), atol=1e-4)


def test_digests_follow_what_the_numbers_depend_on(table: Path) -> None:
    sources = [KernelMean(), KernelMean(grid=9), KernelMean(sigma=0.1), KernelMean(form="nd"), Statistics(),
               Joined([{"kind": "statistics"}]), Joined([{"kind": "statistics"}, {"kind": "kernel_mean"}])]  # fmt: skip
    first = PrecomputedDescriptors(table).digest
    table.write_text(table.read_text().replace("5,6", "5,7"))
    digests = [one.digest for one in sources] + [first, PrecomputedDescriptors(table).digest]
    assert len(set(digests)) == len(digests)
    assert KernelMean().digest == sources[0].digest
    assert KernelMean(form="nd", grid=5).digest == sources[3].digest  # the grid has no meaning there


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet", "parquet index"])
def test_tables_by_column_or_index(form: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "material": ["GaAs", "NaN", "my-17"], "b": [0.5, np.nan, 2.0]})
    path = tmp_path / f"table.{form.split()[0]}"
    if form.startswith("csv"):
        frame.to_csv(path, index=False)
    else:
        (frame.set_index("material") if "index" in form else frame).to_parquet(path)
    source = PrecomputedDescriptors(path, None if "index" in form else "material")
    assert source.names == ("a", "b")
    found, valid = source.describe(["my-17", "NNa", "AsGa", "Fe"])
    assert valid.tolist() == [True, False, True, False]  # sodium nitride has a gap
    np.testing.assert_array_equal(found, [[3, 2], [0, 0], [1, 0.5], [0, 0]])


def test_sodium_nitride_is_no_missing_value(table: Path) -> None:
    np.testing.assert_array_equal(PrecomputedDescriptors(table).describe(["NNa"])[0], [[7, 8]])


@pytest.mark.parametrize(
    ("name", "text", "column", "complaint"),
    [
        ("t.csv", "formula,a\nFe2O3,1\nO3Fe2,2\n", None, "two different rows for 'Fe2O3' .rows 1 and 2"),
        ("t.csv", "formula,a\nFe2O3,many\n", None, "no numbers: ..a.."),
        ("t.csv", "formula,a\n", None, "no numbers|no descriptors"),
        ("t.csv", "formula\nFe\n", None, "no descriptors"),
        ("t.csv", "formula,a\nFe,1\n", "composition", "no column 'composition'"),
        ("t.csv", "", None, "cannot be read"),
        ("t.txt", "formula,a\nFe,1\n", None, "neither csv nor parquet"),
        ("t.parquet", "no parquet", None, "cannot be read"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, name: str, text: str, column: str | None, complaint: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=complaint):
        PrecomputedDescriptors(path, column)


def test_a_missing_file_and_a_table_without_index_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        PrecomputedDescriptors(tmp_path / "none.csv")
    pd.DataFrame({"a": [1.0]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="name the column"):
        PrecomputedDescriptors(tmp_path / "t.parquet")


def test_numbers_too_large_are_gaps(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("formula,a\nFe,1e300\nO,inf\nN,1\n")
    assert PrecomputedDescriptors(tmp_path / "t.csv").describe(["Fe", "O", "N"])[1].tolist() == [False, False, True]


class Counting:
    """A source that notes what it was asked for."""

    names, digest = ("length",), "0" * 64

    def __init__(self) -> None:
        self.asked: list[str] = []

    def describe(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        self.asked += keys
        return np.array([[len(key)] for key in keys], dtype=np.float32), np.array([key != "" for key in keys])


def test_each_key_is_described_once() -> None:
    source = Counting()
    cached = CachedDescriptors(source)
    first, _ = cached.describe(["Fe", "O", "Fe", ""])
    second, valid = cached.describe(["O", "AsGa", "", "Fe", "AsGa"])
    assert source.asked == ["Fe", "O", "", "AsGa"]
    assert first[:, 0].tolist() == [2, 1, 2, 0]
    assert second[:, 0].tolist() == [1, 4, 0, 2, 4]
    assert valid.tolist() == [True, True, False, True, True]


def test_one_warning_counts_and_names_what_is_left_out() -> None:
    keys = ["Fe", *(f"sample-{number}" for number in range(7)), "O", "sample-3"]
    with pytest.warns(UserWarning, match="8 of 10 rows .* 7 compositions .'sample-0'.*'sample-4', ...") as seen:
        table, kept = describe_valid(KernelMean(), keys)
    assert len(seen) == 1
    assert kept.tolist() == [0, 8]
    np.testing.assert_array_equal(table, KernelMean().describe(["Fe", "O"])[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert describe_valid(KernelMean(), ["Fe", "O"])[1].tolist() == [0, 1]


@pytest.mark.parametrize("keys", [[], ["sample-1", ""]])
def test_nothing_left_is_an_error(keys: list[str]) -> None:
    with pytest.raises(InputError, match=f"none of {len(keys)} compositions"):
        describe_valid(Statistics(), keys)


def test_matminer_missing_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matminer", None)
    with pytest.raises(InputError, match=r"pip install 'matminer>=0\.10'"):
        Matminer()


@pytest.mark.skipif(importlib.util.find_spec("matminer") is None, reason="matminer is not installed")
def test_matminer_describes() -> None:
    source = Matminer()
    found, valid = source.describe(KEYS)
    assert valid.tolist() == VALID
    assert found[0, source.names.index("MagpieData maximum Number")] == 26
    with pytest.raises(InputError, match="no preset 'x'"):
        Matminer("x")


@pytest.fixture
def own_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A function in a file of the current folder: three numbers of a formula, none of one without oxygen."""
    (tmp_path / "own_numbers.py").write_text(
        "def numbers(formula):\n    return None if 'Si' in formula else [len(formula), formula.count('O'), 1.5]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_numbers", raising=False)
    return "own_numbers:numbers"


def test_a_function_of_ones_own(own_function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYSTRATA_TRUST_CODE", "1")
    source = descriptor_source("function", name=own_function)
    table, valid = source.describe(["LiO", "OSi", "Fe2O3"])
    assert valid.tolist() == [True, False, True]
    assert table.tolist() == [[3, 1, 1.5], [0, 0, 0], [5, 1, 1.5]]
    assert source.names == ("numbers[0]", "numbers[1]", "numbers[2]")
    for wrong in ("own_numbers:missing", "no_such_file:numbers", "own_numbers"):
        with pytest.raises(InputError, match="write module:function of a Python file"):
            descriptor_source("function", name=wrong)


def test_a_function_is_not_imported_unless_it_is_trusted(own_function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRYSTRATA_TRUST_CODE", raising=False)
    with pytest.raises(UsageError, match="give --trust-code"):
        descriptor_source("function", name=own_function)
    assert "own_numbers" not in sys.modules
