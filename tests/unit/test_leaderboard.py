"""A contribution to the leaderboard: its files, what is refused, and the same bytes every time."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crystrata.cli.completed_runs import leaderboard as main
from crystrata.reports.leaderboard import METADATA, SCRIPT, file_name, run_script
from crystrata.runs.directory import MANIFEST, OFFICIAL, RESULTS, SPLITS

IDS = {"ehull": 7, "epsx": 5}
COMMAND = [
    "run_phase2.py", "--split", "union", "--data-file", "/home/me/jarvis 2021.parquet", "--data-dir", "/home/me/data",
    "--models-dir=/home/me/models", "--run-id", "mine", "--lr", "3e-3",
]  # fmt: skip
WHO = ("--team", "Us", "--email", "us@example.org", "--url", "https://example.org")
Call = Callable[..., tuple[int, str]]


def change(run: Path, name: str, **changes: Any) -> None:
    content = json.loads((run / name).read_text()) if (run / name).exists() else {}
    (run / name).write_text(json.dumps({**content, **changes}))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What training leaves of a run with two whole official tests that leaderboard files are made from."""
    run = tmp_path / "models" / "run_made"
    run.mkdir(parents=True)
    generator, tables = np.random.default_rng(3), []
    for benchmark, n in IDS.items():
        values = {"label": generator.normal(size=n), "prediction": generator.normal(size=n).astype(np.float32)}
        tables.append(pd.DataFrame({"benchmark": benchmark, "id": [f"JVASP-{row}" for row in range(n)], **values}))
    answers = pd.concat(tables)
    answers.to_csv(run / OFFICIAL, index=False, float_format="%.9g")
    errors = (answers["label"] - answers["prediction"]).abs().groupby(answers["benchmark"]).mean()
    change(run, RESULTS, hours=0.5, official_tests={name: {"ids": n, "mae": errors[name]} for name, n in IDS.items()})
    tests = {name: [f"JVASP-{row}" for row in range(n)] for name, n in IDS.items()}
    change(run, SPLITS, protocol="union", official_tests=tests, train=["JVASP-90"], val=["JVASP-91"])
    versions = dict.fromkeys(("crystrata", "python", "torch", "e3nn", "lightning", "numpy", "pandas"), "1.2")
    change(
        run, MANIFEST, status="completed", algorithm="e3nn", mode="std", command=COMMAND, device="A card",
        versions={**versions, "jarvis-tools": "3"}, platform="Linux-6.1-x86_64", git={"commit": "abc", "clean": True},
        source={"name": "dft_3d_2021", "digest": "d" * 64},
    )  # fmt: skip
    return run


@pytest.fixture
def call(run: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Writes the contribution of the run; returns exit code and what was printed, errors included."""

    def called(*flags: object) -> tuple[int, str]:
        try:
            code = main([str(run), *map(str, flags)])
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return called


def refused(call: Call, output: Path) -> str:
    code, said = call(*WHO, "--output", output)
    assert code == 2
    assert said.count("\n") == 1
    assert not output.exists()
    return said


def test_the_folder_is_what_the_leaderboard_reads(call: Call, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "contributions" / "mine"
    code, said = call(*WHO, "--output", folder)
    assert code == 0, said
    assert {path.name for path in folder.iterdir()} == {*map(file_name, IDS), METADATA, SCRIPT}
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]
    labels = pd.read_csv(run / OFFICIAL).set_index(["benchmark", "id"])["label"]
    for benchmark, n in IDS.items():
        file = folder / f"AI-SinglePropertyPrediction-{benchmark}-dft_3d-test-mae.csv.zip"
        with zipfile.ZipFile(file) as archive:
            assert archive.namelist() == [file.name.removesuffix(".zip")]
            assert archive.read(archive.namelist()[0]).startswith(b"id,prediction\nJVASP-0,")
        told = pd.read_csv(file).set_index("id")["prediction"]
        assert sorted(told.index) == [f"JVASP-{row}" for row in range(n)]
        mae = json.loads((run / RESULTS).read_text())["official_tests"][benchmark]["mae"]
        assert (told - labels[benchmark]).abs().mean() == pytest.approx(mae, abs=1e-6)
        assert f"{file.name}: MAE {mae:.4f}" in said
    metadata = json.loads((folder / METADATA).read_text())
    assert metadata["time_taken_seconds"] == dict.fromkeys(map(file_name, IDS), 1800)
    assert (metadata["model_name"], metadata["team_name"]) == ("crystrata_e3nn_std", "Us")
    assert (metadata["author_email"], metadata["project_url"]) == ("us@example.org", "https://example.org")
    assert (metadata["git_url"], metadata["hardware_used"]) == (["https://example.org"], "A card")
    assert (metadata["os"], metadata["language"], metadata["database_version"]) == ("linux", "python", "dft_3d_2021")
    assert "torch 1.2" in metadata["software_used"]
    assert pd.to_datetime(metadata["date_submitted"], format="%m-%d-%Y") is not None
    assert os.name == "nt" or os.access(folder / SCRIPT, os.X_OK)


def test_the_script_repeats_the_command_on_any_machine(run: Path) -> None:
    script = run_script(json.loads((run / MANIFEST).read_text()))
    wanted = "python scripts/phase2_multitask/run_phase2.py --split union --data-file 'jarvis 2021.parquet' --lr 3e-3"
    assert script.splitlines()[-1] == wanted
    assert "/home" not in script
    assert "commit abc." in script


@pytest.mark.parametrize("resume", [["--resume"], ["--resume", "/home/me/models/run_mine"], ["--resume=run_mine"], []])
def test_the_script_of_a_continued_run_starts_it_anew(resume: list[str], run: Path) -> None:
    continued = ["crystrata train", "--epochs", "9", *resume, "--split", "union"]
    change(run, MANIFEST, resumed=continued, git={"commit": "abc", "clean": False})
    script = run_script(json.loads((run / MANIFEST).read_text()))
    assert script.splitlines()[-1] == "crystrata train --epochs 9 --split union"
    assert "commit abc with changes." in script


def test_the_same_run_gives_the_same_bytes(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    for name, moment in (("a", 1e9), ("b", 1.7e9)):
        monkeypatch.setattr("time.time", lambda moment=moment: moment)
        assert call(*WHO, "--output", tmp_path / name)[0] == 0
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).glob("*.zip")})
    assert written[0] == written[1]


def test_flags_are_taken(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ("--model-name", "m1", "--hardware", "one H200", "--git-url", "https://a", "https://b")
    assert call(*WHO, *flags)[0] == 0
    metadata = json.loads(Path("contributions", "m1", METADATA).read_text())
    assert (metadata["git_url"], metadata["hardware_used"]) == (["https://a", "https://b"], "one H200")
    code, said = call(*WHO, *flags)
    assert (code, "exists: choose another --output" in said) == (2, True)


@pytest.mark.parametrize("flag", ["--team", "--email", "--url"])
def test_what_only_a_person_knows_is_asked_for(flag: str, call: Call, tmp_path: Path) -> None:
    place = WHO.index(flag)
    code, said = call(*WHO[:place], *WHO[place + 2 :], "--output", tmp_path / "out")
    assert code == 2
    assert flag in said


def test_a_run_without_a_whole_official_test_is_refused(call: Call, run: Path, tmp_path: Path) -> None:
    change(run, RESULTS, official_tests={})
    change(run, SPLITS, protocol="random")
    said = refused(call, tmp_path / "out")
    assert "(--split random) holds no whole official test" in said
    assert "--split union" in said


def test_a_trained_on_test_is_refused(call: Call, run: Path, tmp_path: Path) -> None:
    change(run, SPLITS, val=["JVASP-6"])
    assert "trained on 1 crystals of the official test ehull, JVASP-6 among them" in refused(call, tmp_path / "out")


@pytest.mark.parametrize("status", ["running", "failed", "interrupted"])
def test_an_unfinished_run_is_refused(status: str, call: Call, run: Path, tmp_path: Path) -> None:
    change(run, MANIFEST, status=status)
    assert f"is {status}, not completed" in refused(call, tmp_path / "out")


def test_unknown_hardware_is_asked_for(call: Call, run: Path, tmp_path: Path) -> None:
    change(run, MANIFEST, device=None)
    assert "give --hardware" in refused(call, tmp_path / "out")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda rows: rows.iloc[1:], "6 ids are not the 7 of the official test"),
        (lambda rows: rows.replace("JVASP-6", "JVASP-7"), "7 ids are not the 7 of the official test"),
        (lambda rows: pd.concat([rows, rows.iloc[:1]]), "JVASP-0 is there twice"),
        (lambda rows: rows.assign(prediction=rows["prediction"].where(rows["id"] != "JVASP-3")), "JVASP-3 has no pred"),
        (lambda rows: rows.assign(prediction=rows["prediction"].replace(rows["prediction"][2], np.inf)), "JVASP-2 has"),
        (lambda rows: rows.assign(prediction=rows["prediction"] + 0.01), "is not that of results.json"),
    ],
)
def test_wrong_predictions_are_refused(
    damage: Callable[[pd.DataFrame], pd.DataFrame], said: str, call: Call, run: Path, tmp_path: Path
) -> None:
    damage(pd.read_csv(run / OFFICIAL)).to_csv(run / OFFICIAL, index=False)
    assert said in refused(call, tmp_path / "out")


def test_a_run_of_an_earlier_version_is_to_be_evaluated_again(call: Call, run: Path, tmp_path: Path) -> None:
    (run / OFFICIAL).unlink()
    assert "--resume run_made" in refused(call, tmp_path / "out")


def test_a_failed_write_leaves_nothing(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.rename", full)
    code, said = call(*WHO, "--output", tmp_path / "there" / "out")
    assert (code, "No space left" in said) == (1, True)
    assert list((tmp_path / "there").iterdir()) == []
