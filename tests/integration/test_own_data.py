"""A table of one's own with structures or formulas, from the command to predictions of the trained network."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import crystrata
from crystrata.cli.main import main
from crystrata.prediction.predict import predict_files
from crystrata.prediction.trained_model import load_model
from crystrata.runs.directory import CONFIG, REPORT, RESULTS
from crystrata.sources.demo import open_demo
from crystrata.structures.crystal import Crystal

N, EACH = 50, 9  # every ninth of the demo crystals
SMALL = ("--epochs", "2", "--device", "cpu")


def poscar(crystal: Crystal) -> str:
    """A crystal as the text of a POSCAR."""
    from crystrata.elements import SYMBOLS

    order = np.argsort(crystal.numbers, kind="stable")
    numbers, counts = np.unique(crystal.numbers[order], return_counts=True)
    lines = [crystal.id, "1.0", *(" ".join(f"{x:.8f}" for x in row) for row in crystal.lattice)]
    lines += [" ".join(SYMBOLS[number - 1] for number in numbers), " ".join(map(str, counts)), "Direct"]
    return "\n".join([*lines, *(" ".join(f"{x:.8f}" for x in row) for row in crystal.frac[order])]) + "\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with some demo crystals as files, and a table that names them, two of which cannot be used."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "files").mkdir()
    demo = open_demo()
    for crystal in islice(demo.crystals(), 0, EACH * N, EACH):
        (folder / "files" / f"{crystal.id}.poscar").write_text(poscar(crystal))
    labels = demo.labels.iloc[: EACH * N : EACH]
    table = pd.DataFrame(
        {
            "sample": range(N),
            "file": [f"files/{id}.poscar" for id in labels.index],
            "formula": labels["formula"].to_list(),
            "Bulk modulus (GPa)": labels["bulk_modulus_kv"].to_list(),
            "nothing": "same",
            "kind": np.where(labels["optb88vdw_bandgap"] > 0, "insulator", "metal"),
        }
    )
    table.loc[3, "file"] = "files/gone.poscar"
    table["Bulk modulus (GPa)"] = table["Bulk modulus (GPa)"].astype(object)
    table.loc[4, "Bulk modulus (GPa)"] = "n/a"
    (folder / "files" / f"{labels.index[5]}.poscar").write_text("broken\n")
    table.to_csv(folder / "mine.csv", index=False)
    return folder


Train = Callable[..., int]


@pytest.fixture
def train(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Calls `crystrata train --table` in the folder of the data; its runs and stores go elsewhere."""
    monkeypatch.chdir(data)

    def train(*flags: str, table: str = "mine.csv") -> int:
        places = ("--models-dir", str(tmp_path / "models"), "--data-dir", str(tmp_path / "data"))
        return main(["train", "--table", table, *places, *SMALL, *flags])

    return train


def only_run(tmp_path: Path) -> Path:
    (config,) = (tmp_path / "models").rglob(CONFIG)
    return config.parent


def test_numbers_and_classes_of_ones_own_structures(
    train: Train, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--structures", "files", "--target", "bulk modulus", "--target", "kind:class", "--start", "none") == 0
    run = only_run(tmp_path)
    assert f"mine.csv: {N - 2} rows with a structure, 2 rejected" in capsys.readouterr().out
    rejected = pd.read_csv(run / "rejected.csv")
    assert rejected["row"].str.partition(":")[0].tolist() == ["row 4", "row 6"]
    assert "no structure of this name under files" in rejected["reason"][0]
    results = json.loads((run / RESULTS).read_text())
    assert (results["tasks"]["bulk_modulus"]["unit"], results["tasks"]["kind"]["kind"]) == ("GPa", "classification")
    assert sum(results["split"][part] for part in ("train", "val", "test")) == N - 2
    assert "data:image/png;base64" in (run / REPORT).read_text()
    known = json.loads((run / "run_manifest.json").read_text())["labels"]["bulk_modulus"]
    assert sum(known.values()) == N - 3  # `n/a` is no number

    table = predict_files(load_model(run, "cpu"), [data / "files" / "demo-0001-Li-fcc.poscar"])
    assert np.isfinite(table["bulk_modulus [GPa]"][0])
    assert table["kind"][0] in ("insulator", "metal")


def test_a_start_and_a_frozen_encoder(train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--structures", "files", "--target", "bulk modulus", "--start", "none", "--run-id", "first") == 0
    first = only_run(tmp_path)
    start = ("--start", str(first), "--freeze", "encoder", "--run-id", "second")
    assert train("--structures", "files", "--target", "kind:class", "--id", "file", *start) == 0
    second = first.with_name("run_second")
    before, after = (load_model(run, "cpu").network.encoder.state_dict() for run in (first, second))  # type: ignore[union-attr]
    assert all(torch.equal(before[name], after[name]) for name in before)
    config = json.loads((second / CONFIG).read_text())
    assert (config["freeze_shared"], config["epochs"], config["id_column"]) == (True, 2, "file")
    assert "start" in json.loads((second / RESULTS).read_text())  # how much of the test part the start had seen

    models = ("--models-dir", str(tmp_path / "models"))
    capsys.readouterr()
    assert main(["runs", *models]) == 0
    listed = capsys.readouterr().out
    assert listed.index("run_second") < listed.index("run_first")
    assert main(["runs", *models, "--property", "bulk_modulus"]) == 0
    assert "run_second" not in capsys.readouterr().out
    assert main(["runs", *models, "--property", "bulk_modulsu"]) == 2
    assert "did you mean 'bulk_modulus'" in capsys.readouterr().err
    assert main(["compare", str(first), str(second)]) == 0
    compared = capsys.readouterr().out
    error = json.loads((first / RESULTS).read_text())["tasks"]["bulk_modulus"]["test"]["mae"]
    assert f"{error:.3g}" in compared
    assert "freeze_shared False -> True" in compared
    assert main(["info", str(first)]) == 0
    about = capsys.readouterr().out
    assert "predicts    bulk_modulus [GPa]" in about
    assert f"materials   {json.loads((first / RESULTS).read_text())['split']['train']}" in about
    assert main(["resume", str(first), "--epochs", "3"]) == 0
    assert len(json.loads((first / "history.json").read_text())) == 3
    assert main(["resume", str(first), "--epochs", "2"]) == 2
    assert "has 3 epochs behind it" in capsys.readouterr().err
    assert main(["compare", str(tmp_path)]) != 0
    assert "is no run directory" in capsys.readouterr().err


def test_training_from_python(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"start": "none", "epochs": 2, "device": "cpu", "units": ["GPa"]}
    model = crystrata.train(data / "mine.csv", "bulk modulus", structures=data / "files", **settings)
    assert model.path.is_relative_to(tmp_path / "models") or not model.path.is_absolute()
    (crystal,) = crystrata.read_crystals(data / "files" / "demo-0001-Li-fcc.poscar")
    assert np.isfinite(model.predict(crystal)["bulk_modulus [GPa]"][0])


def test_formulas_alone(train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--id", "formula", "--target", "Bulk modulus (GPa)", "--unit", "GPa") == 0
    run = only_run(tmp_path)
    capsys.readouterr()
    assert main(["predict", "--model", str(run), "--formula", "NaCl"]) == 0
    assert "bulk_modulus" in "".join(capsys.readouterr())


def test_epochs_follow_from_the_number_of_labels(data: Path) -> None:
    from crystrata.workflows.own_data import own_config

    few = own_config(data / "mine.csv", data / "files", ["bulk modulus"], start="none")
    assert (few.epochs, few.batch_size, few.split) == (200, 16, "random")
    many = pd.concat([pd.read_csv(data / "mine.csv")] * 100, ignore_index=True)
    many.to_csv(data / "many.csv", index=False)
    assert own_config(data / "many.csv", data / "files", ["kind:class"], start="none").epochs == 26


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".json", ".jsonl", ".xlsx"])
def test_tables_of_every_kind_are_read(data: Path, tmp_path: Path, ending: str) -> None:
    from crystrata.sources.own import open_own

    table, path = pd.read_csv(data / "mine.csv"), tmp_path / f"mine{ending}"
    if ending == ".xlsx":
        pytest.importorskip("openpyxl")
        table.to_excel(path, index=False)
    elif ending in (".json", ".jsonl"):
        table.to_json(path, orient="records", lines=ending == ".jsonl")
    elif ending == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",")
    source, rejected = open_own(path, data / "files")
    assert (len(source), len(rejected)) == (N - 2, 2)
    assert source.labels.index[0] == "demo-0001-Li-fcc"
    assert len(list(source.crystals())) == N - 2


def test_rows_of_one_structure_are_different_materials_of_one_formula(data: Path, tmp_path: Path) -> None:
    from crystrata.sources.own import open_own

    table = pd.read_csv(data / "mine.csv").iloc[[0, 1, 0]]
    table.to_csv(tmp_path / "twice.csv", index=False)
    source, rejected = open_own(tmp_path / "twice.csv", data / "files", "file")
    assert rejected == []
    assert source.labels.index.tolist() == ["demo-0001-Li-fcc#1", "demo-0010-Cs-bcc", "demo-0001-Li-fcc#2"]
    assert [crystal.id for crystal in source.crystals()] == source.labels.index.tolist()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--target", "bulk modulsu"), "mine.csv has no column 'bulk modulsu'; did you mean 'Bulk modulus (GPa)'?"),
        ((), "--target names the column to learn, and must be given"),
        (("--target", "kind"), "column 'kind' holds no number; write kind:class if it holds classes"),
        (("--target", "nothing:class"), "column 'nothing' has 1 classes; a class has 2 to 50"),
        (("--target", "kind:clas"), "unknown kind of target kind 'clas'; did you mean 'class'"),
        (("--target", "sample", "--id", "fil"), "mine.csv has no column 'fil'; did you mean 'file'?"),
        (
            ("--target", "sample", "--id", "kind"),
            "no row of mine.csv names a structure under files: its rows name insulator",
        ),
        (("--target", "sample", "--unit", "a", "--unit", "b"), "2 units for 1 targets"),
        (
            ("--target", "sample", "--freeze", "encoder"),
            "--freeze encoder needs trained weights: leave out --start non",
        ),
        (("--target", "sample", "--freeze", "all"), "unknown --freeze 'all' (known: none, encoder)"),
        (
            ("--target", "sample", "--structures", "nowhere"),
            "nowhere: no structure can be read from it (nowhere does n",
        ),
        (("--target", "sample", "--split", "rndom"), "did you mean 'random'"),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], words: str
) -> None:
    assert train("--structures", "files", "--start", "none", *flags) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("no.csv", None, "no.csv: no table can be read from it (No such file or directory)"),
        ("empty.csv", "file,y\n", "empty.csv has no rows"),
        ("mine.txt", "file y\n", "mine.txt: tables are read from .csv, .csv.gz, .tsv, .xlsx, .parquet, .json, .jsonl"),
        ("bad.json", "{", "bad.json: no table can be read from it"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(
    train: Train, data: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, words: str
) -> None:
    if content is not None:
        (data / name).write_text(content)
    assert train("--structures", "files", "--target", "y", "--start", "none", table=name) in (1, 2)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said
