"""Label tables: every file form and cell form, what is unknown and what is refused; real phonon spectra."""

from __future__ import annotations

import gzip
import json
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crystrata.datasets.cells import number_list
from crystrata.datasets.labels import KeyedLabels, Labels, load_labels, no_labels
from crystrata.errors import DataError
from crystrata.tasks import Task

SPECS = {
    "scalar": Task("energy", columns=("e",)),
    "vector": Task("eps", "vector", columns=("eps",)),
    "classification": Task("kind", "classification", columns=("k",), classes=("AC", "QC", "others")),
    "curve": Task("dos", "curve", columns=("dos",), t_column="t"),
    "vec": Task("vec", "sequence", columns=("dos",), head={"subtype": "vec"}),
}


def keyed(spec: Task | str, table: dict[str, list[Any]] | pd.DataFrame, **options: Any) -> KeyedLabels:
    """Return the labels of a task by key, from a table in memory."""
    spec = SPECS[spec] if isinstance(spec, str) else spec
    return load_labels([spec], table=pd.DataFrame(table), **options)[spec.name]


def labels(spec: Task | str, table: dict[str, list[Any]] | pd.DataFrame) -> Labels:
    """Return the labels of a task from a table in memory."""
    return keyed(spec, table).labels


def from_files(*files: Path, kind: str = "scalar", **options: Any) -> KeyedLabels:
    """Return the labels of a task from files."""
    spec = replace(SPECS[kind], data_files=tuple(map(str, files)))
    return load_labels([spec], **options)[spec.name]


def test_scalars() -> None:
    with pytest.warns(UserWarning, match=r"'energy': 2 labels masked: their cells cannot be read \(D, G\)") as told:
        found = labels("scalar", {"composition": list("ABCDEFG"), "e": [1, None, "2.5", "x", "", "n/a", [1.0]]})
    assert len(told) == 1
    np.testing.assert_array_equal(found.values, np.array([1, np.nan, 2.5, *[np.nan] * 4], dtype=np.float32))
    assert found.values.dtype == np.float32
    assert found.known.tolist() == found.known_samples.tolist() == [True, False, True, *[False] * 4]
    assert (len(found), found.width, found.t) == (7, 1, None)


def test_infinite_numbers_are_unknown_and_zero_is_known() -> None:
    found = labels("scalar", {"composition": list("ABC"), "e": [np.inf, 1e300, 0.0]})
    assert found.known.tolist() == [False, False, True]
    assert np.isnan(found.values[:2]).all()


def test_classes_are_names_or_indices() -> None:
    with pytest.warns(UserWarning, match=r"2 labels masked: none of the classes AC, QC, others \(F, G\)"):
        found = labels(
            "classification", {"composition": list("ABCDEFG"), "k": ["QC", 2, 0.0, -1, None, 3, "quasicrystal"]}
        )
    assert found.values.tolist() == [1, 2, 0, -1, -1, -1, -1]
    assert found.values.dtype == np.int64
    assert found.known.tolist() == [True, True, True, False, False, False, False]
    years = Task("year", "classification", columns=("k",), classes=("2", "1"))
    assert labels(years, {"composition": list("AB"), "k": [1, 2]}).values.tolist() == [1, 0]  # a name before an index


def test_vectors_are_known_by_component() -> None:
    with pytest.warns(UserWarning, match="labels masked") as told:
        found = labels(
            "vector",
            {
                "composition": list("ABCDEF"),
                "eps": ["[1, 2, 3]", np.array([4.0, np.nan, 6.0]), (7, None, 9), [1, 2], "gone", None],
            },
        )
    assert [str(warning.message) for warning in told] == [
        "task 'eps': 1 labels masked: their cells cannot be read (E)",
        "task 'eps': 1 labels masked: not of 3 components like the others (D)",
    ]
    assert found.width == 3
    assert found.known.reshape(6, 3).astype(int).tolist() == [[1, 1, 1], [1, 0, 1], [1, 0, 1], *[[0, 0, 0]] * 3]
    np.testing.assert_array_equal(found.values.reshape(6, 3)[2], [7, np.nan, 9])
    assert found.known_samples.tolist() == [True, True, True, False, False, False]
    assert found.offsets.tolist() == [0, 3, 6, 9, 12, 15, 18]


def test_curves_keep_their_own_lengths_and_zero_is_a_coordinate() -> None:
    found = labels("curve", {"composition": list("AB"), "dos": ["[1, 2, nan]", [5.0]], "t": ["(0, 0.5, 1)", [0]]})
    assert found.offsets.tolist() == [0, 3, 4]
    assert found.known.tolist() == [True, True, False, True]
    assert found.t is not None
    assert found.t.tolist() == [0, 0.5, 1, 0]
    assert found.width is None


def test_curves_that_cannot_be_used_are_masked_with_one_warning_of_each_sort() -> None:
    with pytest.warns(UserWarning, match="labels masked") as told:
        found = labels(
            "curve",
            {
                "composition": list("ABCDEF"),
                "dos": [[1, 2], [1, 2], [1, 2], "?", None, [3, 4]],
                "t": [[0, 1, 2], [0, np.nan], None, [0, 1], [0, 1], [0, 1]],
            },
        )
    assert [str(warning.message) for warning in told] == [
        "task 'dos': 1 labels masked: their cells cannot be read (D)",
        "task 'dos': 1 labels masked: they and their coordinates differ in length (A)",
        "task 'dos': 2 labels masked: their coordinates are missing or not finite (B, C)",
    ]
    assert found.known_samples.tolist() == [False] * 5 + [True]
    assert np.diff(found.offsets).tolist() == [3, 0, 0, 2, 2, 2]  # a curve may be predicted where it is unknown
    assert found.t is not None
    assert np.isfinite(found.t).all()
    assert found.values[-2:].tolist() == [3, 4]


def test_a_sequence_without_coordinate() -> None:
    found = labels("vec", {"composition": list("ABC"), "dos": [[1, 2], None, [3]]})
    assert (found.t, found.offsets.tolist()) == (None, [0, 2, 2, 3])


@pytest.mark.parametrize(
    ("cell", "numbers"),
    [
        ("[1, 2.5, -3e-2]", [1, 2.5, -0.03]),
        ("(1, 2)", [1, 2]),
        ("[None, 1]", [np.nan, 1]),
        ("[null, NaN, nan, 1]", [np.nan, np.nan, np.nan, 1]),
        (" [1.0,]", [1.0]),
        (np.array([1, 2], dtype=np.float32), [1, 2]),
        ("[[1, 2], [3, 4]]", None),
        ("[[1], [2, 3]]", None),
        ("['a']", None),
        ("[]", None),
        ("1.0", None),
        ("__import__('os').getcwd()", None),
        ("[" * 100_000, None),
        ("[" * 150 + "1" + "]" * 150, None),
        (f"[{'9' * 400}]", None),
        ({"a": 1}, None),
        (None, None),
    ],
)
def test_lists_of_numbers(cell: object, numbers: list[float] | None) -> None:
    found = number_list(cell)
    if numbers is None:
        assert found is None
    else:
        np.testing.assert_array_equal(found, numbers)


FRAME = pd.DataFrame(
    {"composition": ["NaN", "Fe2O3", "InF"], "e": [1.0, np.nan, 3.0], "split": ["train", None, "test"]}
)


def write(path: Path, table: pd.DataFrame) -> Path:
    """Write a table in the form that its name asks for."""
    if path.name.endswith(".parquet"):
        table.to_parquet(path)
    elif path.name.endswith((".pkl", ".pd.xz")):
        table.to_pickle(path)
    elif ".json" in path.name:
        text = json.dumps(json.loads(table.to_json(orient="records"))).encode()
        path.write_bytes(gzip.compress(text) if path.name.endswith(".gz") else text)
    else:
        table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", "t.csv t.csv.gz t.parquet t.json t.json.gz t.pkl t.pd.xz T.CSV".split())
def test_every_form_of_file_holds_the_same(tmp_path: Path, name: str) -> None:
    found = from_files(write(tmp_path / name, FRAME), trust_pickle=name.endswith((".pkl", ".xz")))
    assert found.keys == ("NaN", "Fe2O3", "InF")  # sodium nitride is no gap
    np.testing.assert_array_equal(found.labels.values, FRAME["e"].to_numpy(dtype=np.float32))
    assert found.split.tolist() == ["train", "", "test"]


@pytest.mark.parametrize("name", "t.csv t.parquet t.json".split())
def test_curves_from_every_form_of_file(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame({"composition": ["A", "B"], "dos": [[1.0, 2.0], [3.0]], "t": [[0.0, 1.0], [0.0]]})
    found = from_files(write(tmp_path / name, table), kind="curve")
    assert (found.labels.offsets.tolist(), found.labels.values.tolist()) == ([0, 2, 3], [1, 2, 3])


def test_a_pickle_is_not_opened_unasked(tmp_path: Path) -> None:
    bomb = tmp_path / "t.pkl"
    bomb.write_bytes(b"cos\nmkdir\n(S'" + os.fsencode(tmp_path / "opened") + b"'\ntR.")
    with pytest.raises(DataError, match="a pickle can run any program"):
        from_files(bomb)
    assert not (tmp_path / "opened").exists()


def test_several_files_are_one_table_and_the_first_of_a_key_stays(tmp_path: Path) -> None:
    more = pd.DataFrame({"composition": ["O3Fe2", "NaCl"], "e": [7.0, 8.0]})
    files = [write(tmp_path / "a.csv", FRAME), write(tmp_path / "b.parquet", more)]
    with pytest.warns(UserWarning, match=r"the first row is kept: 1 rows left out \(Fe2O3\)") as told:
        found = from_files(*files, key_of=lambda name: {"O3Fe2": "Fe2O3"}.get(name, name))
    assert len(told) == 1
    assert found.keys == ("NaN", "Fe2O3", "InF", "NaCl")
    np.testing.assert_array_equal(found.labels.values, np.array([1, np.nan, 3, 8], dtype=np.float32))
    assert found.split.tolist() == ["train", "", "test", ""]


def test_rows_without_a_composition_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("composition,e\nA,1\n,2\n  ,3\n")
    with pytest.warns(UserWarning, match="2 rows without a composition are left out"):
        assert from_files(tmp_path / "t.csv").keys == ("A",)


@pytest.mark.parametrize("header", ["composition", ""])
def test_keys_of_a_csv_stay_as_they_are_written(tmp_path: Path, header: str) -> None:
    (tmp_path / "t.csv").write_text(f"{header},e\n007,1\n1.50,2\n1e5,na\nInF,4\n")
    files = (str(tmp_path / "t.csv"),)
    spec = Task("energy", columns=("e",), data_files=files, composition_column=header or None)
    found = load_labels([spec])["energy"]
    assert found.keys == ("007", "1.50", "1e5", "InF")
    assert found.labels.known.tolist() == [True, True, False, True]
    (tmp_path / "t.csv").write_text(f"{header},e\n007,1\n1.50,2\n")  # numbers alone
    assert load_labels([spec])["energy"].keys == ("007", "1.50")


def test_the_index_may_hold_the_compositions(tmp_path: Path) -> None:
    spec = Task("energy", columns=("e",), composition_column=None)
    table = pd.DataFrame({"e": [1.0, 2.0]}, index=["id-1", "NaN"])
    assert keyed(spec, table).keys == ("id-1", "NaN")
    table.to_csv(tmp_path / "t.csv")
    table.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        found = load_labels([replace(spec, data_files=(str(tmp_path / name),))])["energy"]
        assert (found.keys, found.labels.values.tolist()) == (("id-1", "NaN"), [1, 2])
    assert keyed("scalar", table.rename_axis("composition")).keys == ("id-1", "NaN")


def test_one_file_for_all_tasks_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.DataFrame(
        {"composition": ["A", "B"], "e": [1, 2], "k": ["QC", "AC"], "dos": [[1], [2]], "t": [[0], [0]]}
    )
    path = str(write(tmp_path / "t.parquet", table))
    opened: list[Path] = []
    read = pd.read_parquet
    monkeypatch.setattr(pd, "read_parquet", lambda file: opened.append(file) or read(file))
    specs = [replace(SPECS[kind], data_files=(path,)) for kind in ("scalar", "curve")]
    specs.append(Task("rebuilt", "autoencoder"))
    found = load_labels(specs)
    assert (list(found), len(opened)) == (["energy", "dos"], 1)
    memory = load_labels(specs[:2], table={"energy": table, "dos": table[::-1]})
    assert memory["dos"].keys == ("B", "A")
    np.testing.assert_array_equal(memory["energy"].labels.values, found["energy"].labels.values)


def test_a_missing_label_column_masks_and_a_missing_coordinate_is_an_error() -> None:
    with pytest.warns(UserWarning, match=r"its table has no column 'e'; did you mean 'ee'\?; no label"):
        found = labels("scalar", {"composition": ["A"], "ee": [1.0]})
    assert found.known.tolist() == [False]
    with pytest.raises(DataError, match="its table has no t_column 't'"):
        labels("curve", {"composition": ["A"], "dos": [[1.0]]})


def test_without_a_table_only_tasks_without_coordinate_can_be_predicted() -> None:
    for kind in ("scalar", "vector", "classification", "vec"):
        found = no_labels_quietly(SPECS[kind])
        assert (found.keys, found.labels.values.size, found.labels.offsets.tolist()) == ((), 0, [0])
    with pytest.raises(DataError, match="predicts over 't'"):
        no_labels(SPECS["curve"])
    with pytest.raises(DataError, match="neither data_files nor a table"):
        load_labels([SPECS["scalar"]])


def no_labels_quietly(spec: Task) -> KeyedLabels:
    """Return empty labels; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return no_labels(spec)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", None, "no table can be read"),
        ("t.csv", b"", "no table can be read"),
        ("t.parquet", b"PAR1 but cut", "no table can be read"),
        ("t.json", b'{"A": 1}', "no list of records"),
        ("t.json", b"[1, 2]", "no list of records"),
        ("t.csv.gz", b"not gzip", "no table can be read"),
        ("t.xlsx", b"", "tables are read from .csv"),
        ("t.csv", b"compositon,e\nA,1\n", "no column 'composition' of compositions; did you mean 'compositon'"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        from_files(tmp_path / name)
    assert words in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_an_unknown_part_is_an_error() -> None:
    with pytest.raises(DataError, match=r"column 'split': unknown part 'tests'; did you mean 'test'"):
        labels("scalar", {"composition": ["A"], "e": [1.0], "split": ["tests"]})
    categories = {"composition": ["A", "B"], "e": [1.0, 2.0], "split": pd.Categorical(["val", None])}
    assert keyed("scalar", categories).split.tolist() == ["val", ""]


def test_samples_are_taken_in_any_order() -> None:
    found = labels(
        "curve", {"composition": list("ABC"), "dos": [[1, 2], [3], [4, 5, 6]], "t": [[0, 1], [7], [0, 1, 2]]}
    )
    taken = found.at(np.array([2, 0, 2]))
    assert taken.values.tolist() == [4, 5, 6, 1, 2, 4, 5, 6]
    assert taken.offsets.tolist() == [0, 3, 5, 8]
    assert taken.t is not None
    assert taken.t.tolist() == [0, 1, 2, 0, 1, 0, 1, 2]
    assert len(found.at(np.array([], dtype=int))) == 0
    unknown = found.at(np.array([-1, 1]))  # the first material has no row
    assert (unknown.values.tolist(), unknown.offsets.tolist()) == ([3], [0, 0, 1])


def test_real_phonon_spectra_and_two_scalar_columns() -> None:
    if not os.environ.get("CRYSTRATA_JARVIS"):
        pytest.skip("CRYSTRATA_JARVIS names no compact JARVIS file")
    crystals = Path(os.environ["CRYSTRATA_JARVIS"])
    spectra = pd.read_parquet(crystals.with_name("jarvis_phdos.parquet"))
    table = pd.read_parquet(crystals, columns=["jid", "formation_energy_peratom", "bulk_modulus_kv"])
    axis = np.linspace(-300, 1000, 66)
    spectra["wavenumber"] = [axis] * len(spectra)
    specs = [
        Task("dos", "curve", columns=("ph_dos",), t_column="wavenumber", composition_column="jid"),
        Task("energy", columns=("formation_energy_peratom",), composition_column="jid"),
        Task("bulk", columns=("bulk_modulus_kv",), composition_column="jid"),
    ]
    found = load_labels(specs, table={"dos": spectra, "energy": table, "bulk": table})
    dos = found["dos"].labels
    assert (len(dos), dos.offsets[-1]) == (14_243, 14_243 * 66)
    assert dos.known.all()
    np.testing.assert_array_equal(dos.values.reshape(-1, 66)[77], spectra["ph_dos"][77])
    np.testing.assert_allclose(dos.t.reshape(-1, 66)[5000], axis, rtol=1e-6)
    assert set(found["dos"].split) == {"train", "val", "test"}
    assert [found[name].labels.known.sum() for name in ("energy", "bulk")] == [55_712, 19_680]
