"""Manners of a command: odd names are shown as they are, a reader may go, spawned workers find their way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crystrata.cli.main import _VERBS
from crystrata.cli.main import main as console
from crystrata.cli.parsing import run_verb, terminal
from crystrata.cli.predict import main as predict

MODULE = ["-m", "crystrata"]
SCRIPT = "scripts/phase2_multitask/process_data_phase2.py"
RECORDS = """[{"jid": "JVASP-1", "formation_energy_peratom": -1.0, "atoms": {"elements": ["Na", "Cl"],
"cartesian": false, "coords": [[0, 0, 0], [0.5, 0.5, 0.5]], "lattice_mat":
[[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]]}}]"""


def child(root: Path, *command: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run Python on the package of this tree, in another process."""
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 100, **settings}
    return subprocess.run([sys.executable, *command], env=environment, **settings)  # type: ignore[call-overload]


@pytest.mark.parametrize("entry", [[*MODULE, "store"], [SCRIPT]], ids=["module", "script"])
def test_spawned_workers_start_from_every_entry_point(entry: list[str], root: Path, tmp_path: Path) -> None:
    data_file = tmp_path / "salts [1].json"
    data_file.write_text(RECORDS, encoding="utf-8")
    done = child(root, *entry, "--data-file", str(data_file), "--data-dir", str(tmp_path / "data"), "--workers", "2",
                 cwd=root)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("store ") == 1  # a worker that ran the entry point again would say so again
    assert "1 crystals, 2 atoms" in done.stdout


@pytest.mark.parametrize("flags", [["--help"], ["train", "--help"], ["matrix", "--dry-run"]], ids=" ".join)
def test_a_reader_that_has_gone_ends_a_command_in_silence(flags: list[str], root: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = child(root, *MODULE, *flags, stdout=nobody)
    assert done.stderr == ""


def test_no_output_at_all_is_no_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert run_verb(lambda: 0) == 0


def test_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    terminal().print("run [bold]1[/bold] in [/] :smile:")
    assert capsys.readouterr().out == "run [bold]1[/bold] in [/] :smile:\n"


def test_a_name_that_the_encoding_lacks_is_spelled(root: Path) -> None:
    program = "from crystrata.cli.parsing import run_verb\nrun_verb(lambda: print('\\u6676 \\u00e4') or 0)"
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert done.stdout.split() == [b"\\u6676", "ä".encode("cp1252")], done.stderr


@pytest.mark.skipif(os.name == "nt", reason="the system refuses such a name with other words")
def test_a_name_too_long_for_the_system_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(["--cif", "x" * 300]) in (1, 2)
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "x" * 300 in said


@pytest.mark.parametrize(
    "call",
    [
        "predict --formula GaAs",
        "evaluate --model best",
        "ensemble a b",
        "design --objective band_gap=1",
        "design study --config study.toml",
    ],
)
def test_a_models_folder_that_is_not_there_is_one_line(call: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        console([*call.split(), "--models-dir", "gone"])
    said = capsys.readouterr().err
    assert "no such folder: gone" in said
    assert said.count("\n") == 1


def test_an_error_of_the_system_without_a_file_is_a_defect() -> None:
    def defect() -> int:
        raise OSError("nobody knows where")

    with pytest.raises(OSError, match="nobody knows where"):
        run_verb(defect)


@pytest.mark.parametrize("verb", [*_VERBS, "design study"])
def test_help_ends_with_two_examples_and_shows_no_default_that_is_none(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        console([*verb.split(), "--help"])
    help_text = capsys.readouterr().out
    assert "default: None" not in help_text
    examples = help_text.rstrip().splitlines()[-3:]
    assert examples[0] == "examples:"
    assert all(line.startswith("  ") and len(line) <= 120 for line in examples[1:])
