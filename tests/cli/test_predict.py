"""`crystrata predict`: which model, which files, which exit code, and what a person reads."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from crystrata.cli.predict import main
from crystrata.networks.model_folder import write_model_folder
from crystrata.runs.directory import BEST
from crystrata.runs.find import DEFAULT_MODEL, WEIGHTS
from crystrata.training.checkpoints import read_checkpoint, write_checkpoint

MakeRun = Callable[..., Path]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path / "here"


@pytest.fixture
def cifs(root: Path) -> list[Path]:
    """Silicon and rock salt."""
    return [root / "examples" / "cifs" / f"{name}.cif" for name in ("silicon", "rock_salt")]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Predicts with the newest run of the test; returns exit code, standard output and standard error."""

    def called(*flags: object) -> tuple[int, str, str]:
        named = [] if {"--model", "--run", "--family"} & set(flags) else ["--model", "latest"]
        (tmp_path / "models").mkdir(exist_ok=True)
        try:
            code = main([*map(str, flags), *named, "--models-dir", str(tmp_path / "models"), "--device", "cpu"])
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return called


def refused(answer: tuple[int, str, str]) -> str:
    """The one line of an answer with exit code 2."""
    code, out, err = answer
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_one_file_is_printed_with_units(make_run: MakeRun, call: Call, cifs: list[Path], here: Path) -> None:
    run = make_run(heads={"band_gap": "gap"})
    code, out, err = call("--cif", cifs[0])
    assert (code, err) == (0, "")
    assert "silicon" in out
    assert "Si" in out
    lines = [line.split() for line in out.splitlines() if line.strip()]
    units = {line[0]: line[2] for line in lines if line[0] in ("formation_energy", "band_gap") and len(line) == 3}
    assert units == {"formation_energy": "eV/atom", "band_gap": "eV"}
    (probability,) = [line[-1] for line in lines if line[:3] == ["band_gap", "metal", "probability"]]
    assert 0 <= float(probability) <= 1
    assert "1 structures, 0 with errors" in out
    assert str(run / BEST) in out
    assert list(here.iterdir()) == []


def test_files_and_folders_may_be_named_as_they_are(
    make_run: MakeRun, call: Call, cifs: list[Path], root: Path
) -> None:
    make_run()
    code, out, _ = call(cifs[0], root / "examples" / "cifs", "gone.cif")
    assert code == 0
    assert "8 structures, 1 with errors" in out
    assert "name structure files or folders" in refused(call(cifs[0], "--formula", "NaCl"))


def test_a_folder_becomes_a_table_in_the_current_folder(make_run: MakeRun, call: Call, root: Path, here: Path) -> None:
    make_run()
    assert call("--dir", root / "examples" / "cifs")[0] == 0
    assert [path.name for path in here.iterdir()] == ["phase2_preds.csv"]
    table = pd.read_csv(here / "phase2_preds.csv")
    assert table["id"].tolist() == sorted(path.stem for path in (root / "examples" / "cifs").glob("*.cif"))
    assert table.columns[:4].tolist() == ["id", "formula", "formation_energy [eV/atom]", "band_gap [eV]"]
    assert "model" not in table


def test_the_output_can_be_chosen(make_run: MakeRun, call: Call, cifs: list[Path], here: Path) -> None:
    make_run()
    code, out, err = call("--cif", *cifs, "--output", here / "sub" / "mine.csv")
    assert (code, out) == (0, "")  # what is written to a file leaves standard output alone
    assert str(here / "sub" / "mine.csv") in err
    assert pd.read_csv(here / "sub" / "mine.csv")["id"].tolist() == ["silicon", "rock_salt"]


def test_the_output_may_be_no_folder(make_run: MakeRun, call: Call, cifs: list[Path], here: Path) -> None:
    make_run()
    (here / "folder.csv").mkdir()
    code, _, err = call("--cif", *cifs, "--output", here / "folder.csv")
    assert code == 1
    assert err.splitlines()[-1].startswith(f"error: cannot write {here}")


def test_an_output_that_cannot_be_is_refused_before_any_work(
    make_run: MakeRun, call: Call, cifs: list[Path], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run()
    assert "end the name in .csv or .xlsx" in refused(call("--cif", *cifs, "--output", "table.ods"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'crystrata[excel]'" in refused(call("--cif", *cifs, "--output", "table.xlsx"))
    assert list(here.iterdir()) == []


def test_the_output_may_be_a_sheet(make_run: MakeRun, call: Call, cifs: list[Path], here: Path) -> None:
    pytest.importorskip("openpyxl")
    make_run()
    shutil.copy(cifs[0], here / "=1+1.cif")
    shutil.copy(cifs[0], here / "a\x01b.cif")
    files = ["=1+1.cif", "a\x01b.cif", "gone.cif"]
    assert call("--cif", *files, "--output", "out.XLSX")[0] == 0
    assert call("--cif", *files, "--output", "out.csv")[0] == 0
    sheet, text = pd.read_excel("out.XLSX", keep_default_na=False), pd.read_csv("out.csv", keep_default_na=False)
    assert sheet["id"].tolist() == text["id"].tolist() == ["'=1+1", r"a\x01b", "gone"]
    assert sheet.columns.tolist() == text.columns.tolist()
    assert sheet["error_code"].tolist() == ["", "", "not_found"]
    gaps = sheet["band_gap [eV]"].tolist()
    assert gaps[:2] == [pytest.approx(float(gap)) for gap in text["band_gap [eV]"][:2]]
    assert isinstance(gaps[0], int | float)
    assert gaps[2] == ""


def test_a_broken_file_among_others_is_a_row_and_no_failure(
    make_run: MakeRun, call: Call, cifs: list[Path], here: Path
) -> None:
    make_run()
    (here / "broken.cif").write_text("data_x\nloop_\n")
    code, _, err = call("--cif", cifs[0], "broken.cif", cifs[1], "--output", "out.csv")
    assert code == 0
    table = pd.read_csv("out.csv", keep_default_na=False)
    assert table["id"].tolist() == ["silicon", "broken", "rock_salt"]
    assert table["error_code"].tolist()[::2] == ["", ""]
    assert table["error_code"][1] != ""
    assert table["band_gap [eV]"][1] == ""
    assert "3 structures, 1 with errors" in err
    assert f"broken: {table['error_code'][1]}: " in err


def test_only_broken_files_are_a_failure(make_run: MakeRun, call: Call, here: Path) -> None:
    make_run()
    for name in ("a.cif", "b.cif"):
        (here / name).write_text("no crystal")
    code, _, _ = call("--cif", "a.cif", "b.cif", "--output", "out.csv")
    assert code == 1
    assert len(pd.read_csv("out.csv")) == 2


def test_a_missing_file_among_others_is_a_row(make_run: MakeRun, call: Call, cifs: list[Path]) -> None:
    make_run()
    assert call("--cif", "gone.cif", cifs[0], "--output", "out.csv")[0] == 0
    assert pd.read_csv("out.csv", keep_default_na=False)["error_code"].tolist() == ["not_found", ""]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--cif", "gone.cif"], "no such file: gone.cif"),
        (["--cif", "gone.cif", "lost.cif"], "no such file: gone.cif, lost.cif"),
        (["--dir", "gone"], "no such folder: gone"),
        (["--dir", "empty"], "empty holds no structure file"),
        (["--dir", "notes"], "notes holds no structure file"),
        ([], "name structure files or folders, or formulas with --formula"),
        (
            ["--cif", "a.cif", "--dir", "empty"],
            "name structure files or folders, or formulas with --formula",
        ),
        (["--cfi", "a.cif"], "unknown argument --cfi; did you mean '--cif'?"),
        (["--cif"], "argument --cif: expected at least one argument"),
    ],
    ids=str,
)
def test_a_wrong_call_is_refused(flags: list[str], said: str, make_run: MakeRun, call: Call, here: Path) -> None:
    make_run()
    (here / "empty").mkdir()
    (here / "notes").mkdir()
    (here / "notes" / "readme.md").write_text("no crystal here")
    (here / "a.cif").touch()
    assert said in refused(call(*flags))


def test_two_models_contradict_each_other(make_run: MakeRun, call: Call, cifs: list[Path]) -> None:
    run = make_run()
    assert "--model and --family contradict" in refused(
        call("--cif", cifs[0], "--model", run, "--family", "multitask_cgcnn")
    )


def test_without_a_model_the_way_to_one_is_named(call: Call, cifs: list[Path], tmp_path: Path) -> None:
    said = refused(call("--cif", cifs[0]))
    assert f"no trained model under {tmp_path / 'models'}" in said
    assert "run_phase2.py" in said
    assert "--model" in said
    assert "for --family multitask_cgcnn" in refused(call("--cif", cifs[0], "--family", "multitask_cgcnn"))
    assert "there is no nowhere" in refused(call("--cif", cifs[0], "--model", "nowhere"))


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "a pickle", "other tensors", "a folder"])
def test_a_damaged_model_is_refused(damage: str, make_run: MakeRun, call: Call, cifs: list[Path]) -> None:
    import torch

    best = make_run() / BEST
    whole = best.read_bytes()
    if damage == "a folder":
        best.unlink()
        best.mkdir()
    elif damage == "other tensors":
        write_checkpoint(best, {"weight": torch.zeros(3)})
    else:
        cut, pickled = whole[: len(whole) // 2], pickle.dumps(Path)
        best.write_bytes({"empty": b"", "cut": cut, "text": b"something else", "a pickle": pickled}[damage])
    said = refused(call("--cif", cifs[0], "--model", best.parent))
    assert said.startswith("error: ")
    assert damage == "other tensors" or str(best) in said
    assert "format" in said if damage == "other tensors" else "damaged" in said or "there is no" in said


def test_nothing_foreign_is_run_from_a_model(make_run: MakeRun, call: Call, cifs: list[Path], here: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {here / 'owned'}",)

    import torch

    best = make_run() / BEST
    torch.save({"format": 1, "network": Evil()}, best)
    assert "damaged" in refused(call("--cif", cifs[0], "--model", best))
    assert not (here / "owned").exists()


def chosen(answer: tuple[int, str, str]) -> str:
    """Name of the run that predicted."""
    code, out, _ = answer
    assert code == 0
    return Path(out.split("model: ")[1].split("\n")[0]).parent.name


def test_the_best_family_and_its_newest_run_are_taken(make_run: MakeRun, call: Call, cifs: list[Path]) -> None:
    pro = make_run("run_pro", algorithm="e3nn", mode="competition")
    old = make_run("run_std_old", algorithm="e3nn")
    make_run("run_std_new", algorithm="e3nn")
    make_run("run_cgcnn")
    assert chosen(call("--cif", cifs[0], "--model", "latest")) == "run_cgcnn"
    assert chosen(call("--cif", cifs[0], "--family", "multitask_std_e3nn")) == "run_std_new"
    assert chosen(call("--cif", cifs[0], "--family", "multitask_cgcnn")) == "run_cgcnn"
    assert chosen(call("--cif", cifs[0], "--model", old)) == "run_std_old"
    assert chosen(call("--cif", cifs[0], "--run", old / BEST)) == "run_std_old"  # the older flag
    assert chosen(call("--cif", cifs[0], "--family", "multitask_pro_e3nn")) == "run_pro"
    (pro / BEST).unlink()
    assert "no trained model" in refused(call("--cif", cifs[0], "--family", "multitask_pro_e3nn"))


def ship(run: Path, folder: Path) -> Path:
    """Write the weights of a run as a shipped model; return its folder."""
    write_model_folder(folder, read_checkpoint(run / BEST), {})
    return folder


def test_the_shipped_model_answers_unless_a_model_is_named(
    make_run: MakeRun, cifs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def used(*flags: str) -> str:
        assert main(["--cif", str(cifs[0]), *flags, "--models-dir", str(tmp_path / "models"), "--device", "cpu"]) == 0
        return Path(capsys.readouterr().out.split("model: ")[1].split("\n")[0]).parent.name

    monkeypatch.setattr("crystrata.runs.find.SHIPPED", tmp_path / "package")
    check = make_run("run_check", mode="smoke")
    ship(check, tmp_path / "package" / "other")
    assert main(["--cif", str(cifs[0]), "--models-dir", str(tmp_path / "models")]) == 2
    assert f"the shipped model {DEFAULT_MODEL} is neither under" in capsys.readouterr().err
    ship(check, tmp_path / "package" / DEFAULT_MODEL)
    assert used() == DEFAULT_MODEL
    make_run("run_real")  # a run of one's own changes nothing for a call that names none
    assert used() == DEFAULT_MODEL
    assert used("--model", "best") == "run_real"
    assert used("--model", "latest") == "run_real"
    own = ship(check, tmp_path / "models" / "pretrained" / DEFAULT_MODEL)
    assert main(["--cif", str(cifs[0]), "--models-dir", str(tmp_path / "models")]) == 0
    assert str(own / WEIGHTS) in capsys.readouterr().out


def test_a_shipped_model_is_named_or_pathed(
    make_run: MakeRun, call: Call, cifs: list[Path], tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crystrata.runs.find.SHIPPED", tmp_path / "package")
    run = make_run()
    folder = ship(run, tmp_path / "package" / "mine")
    for named in ("mine", folder, folder / WEIGHTS):
        assert chosen(call("--cif", cifs[0], "--model", named)) == "mine"
    assert "there is no" in refused(call("--cif", cifs[0], "--model", "./mine"))
    shutil.copytree(run, here / "mine")  # a path goes before a name
    assert call("--cif", cifs[0], "--model", "mine")[1].endswith(f"model: {Path('mine') / BEST}\n")


def test_a_source_tree_finds_its_own_shipped_models(root: Path) -> None:
    program = "from crystrata.runs.find import SHIPPED; print(SHIPPED)"
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == root / "models" / "pretrained"


@pytest.mark.parametrize(
    ("how", "family"),
    [
        ({"algorithm": "e3nn", "mode": "lite"}, "multitask_lite_e3nn"),
        ({"algorithm": "e3nn", "mode": "smoke"}, "multitask_std_e3nn"),
        ({"algorithm": "cgcnn", "mode": "lite"}, "multitask_cgcnn"),
        ({"algorithm": "e3nn", "mode": "std", "demo": True}, "multitask_std_e3nn"),
    ],
    ids=str,
)
def test_a_check_of_the_pipeline_predicts_only_when_named(
    how: dict[str, object], family: str, make_run: MakeRun, call: Call, cifs: list[Path]
) -> None:
    run = make_run("run_check", **how)
    assert "no trained model" in refused(call("--cif", cifs[0], "--model", "best"))
    assert chosen(call("--cif", cifs[0], "--family", family)) == "run_check"
    assert chosen(call("--cif", cifs[0], "--model", run)) == "run_check"
    make_run("run_real", algorithm="cgcnn")
    make_run("run_check_2", **how)
    assert chosen(call("--cif", cifs[0], "--model", "best")) == "run_real"


def test_a_leaderboard_property_is_predicted_only_where_a_run_of_it_alone_is_named(
    make_run: MakeRun, call: Call, cifs: list[Path]
) -> None:
    make_run("run_both", properties=["band_gap", "ehull_official"])
    alone = make_run("run_alone", properties=["ehull_official"])
    assert call("--cif", cifs[0], "--model", "best", "--output", "best.csv")[0] == 0
    assert "run_both" in call("--cif", cifs[0], "--model", "best")[1]
    columns = set(pd.read_csv("best.csv").columns)
    assert "band_gap [eV]" in columns
    assert "ehull_official [eV/atom]" not in columns
    assert call("--cif", cifs[0], "--model", alone, "--output", "named.csv")[0] == 0
    assert pd.read_csv("named.csv")["ehull_official [eV/atom]"].notna().all()


def test_a_demo_model_says_so(make_run: MakeRun, call: Call, cifs: list[Path]) -> None:
    run = make_run(demo=True)
    code, out, _ = call("--cif", cifs[0], "--model", run)
    assert code == 0
    assert "DEMO" in out
    assert call("--cif", cifs[0], "--model", run, "--output", "out.csv")[0] == 0
    assert set(pd.read_csv("out.csv")["model"]) == {"DEMO: labels are not DFT"}


def test_formulas_are_called_so(make_run: MakeRun, call: Call, here: Path) -> None:
    make_run()
    code, out, _ = call("--formula", "GaAs", "Qq")
    assert code == 1
    assert "2 formulas, 2 with errors" in out
    assert "2 structures" not in out


def test_no_name_of_a_file_becomes_a_formula(make_run: MakeRun, call: Call, cifs: list[Path], here: Path) -> None:
    make_run()
    names = ["=1+1", "+a", "-b", "@c", "plain"]
    for name in names:
        shutil.copy(cifs[0], here / f"{name}.cif")
    (here / "=broken.cif").write_text("=cmd")
    assert call("--dir", here)[0] == 0
    with open(here / "phase2_preds.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["id"] for row in rows} == {"'=1+1", "'+a", "'-b", "'@c", "plain", "'=broken"}
    assert all(not row[key].startswith(("=", "+", "@")) for row in rows for key in ("id", "formula", "error"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are text")
def test_a_name_that_is_no_text_is_a_row_like_others(
    make_run: MakeRun, call: Call, cifs: list[Path], here: Path
) -> None:
    make_run()
    (here / "in").mkdir()
    shutil.copy(cifs[0], os.fsencode(here / "in") + b"/a\xff.cif")
    shutil.copy(cifs[1], here / "in" / "b.cif")
    code, _, err = call("--dir", "in")
    assert (code, err.count("\n")) == (0, 0)
    assert sorted(pd.read_csv("phase2_preds.csv")["id"]) == [r"a\xff", "b"]
    assert call("--cif", *sorted((here / "in").iterdir()))[0] == 0


def test_disorder_is_an_error_unless_its_majority_is_asked_for(
    make_run: MakeRun, call: Call, cifs: list[Path], here: Path
) -> None:
    make_run()
    structure = {
        "lattice": {"matrix": [[5, 0, 0], [0, 5, 0], [0, 0, 5]]},
        "sites": [{"species": [{"element": "Na", "occu": 0.8}], "abc": [0, 0, 0], "label": "Na1"}],
    }
    (here / "salt.json").write_text(json.dumps(structure))
    inputs = ["--cif", "salt.json", cifs[0], "--output", "out.csv"]
    assert call(*inputs)[0] == 0
    table = pd.read_csv("out.csv", keep_default_na=False)
    assert table["error_code"].tolist() == ["disordered", ""]
    assert call(*inputs, "--majority-species")[0] == 0
    table = pd.read_csv("out.csv", keep_default_na=False)
    assert table["error_code"].tolist() == ["", ""]
    assert table["formula"].tolist() == ["Na", "Si"]
    assert table["warning"][0].startswith("disordered, majority species taken: Na1 (Na 0.8) as Na")
    assert table["warning"][1] == ""


def test_many_structures_are_counted_not_listed(make_run: MakeRun, call: Call, cifs: list[Path]) -> None:
    make_run()
    code, out, _ = call("--cif", *[cifs[0]] * 25)
    assert code == 0
    assert out.count("formation_energy") == 20
    assert "25 structures, 0 with errors, 5 not shown" in out


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_an_unknown_device_is_refused(
    device: str, make_run: MakeRun, cifs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    assert main(["--cif", str(cifs[0]), "--model", str(run), "--device", device]) == 2
    assert "--device" in capsys.readouterr().err


def test_negative_workers_are_refused(call: Call, cifs: list[Path]) -> None:
    assert "--workers must be 0 or more" in refused(call("--cif", cifs[0], "--workers", -1))
