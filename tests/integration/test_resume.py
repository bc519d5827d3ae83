"""Exact resume: a run that is cut and continued gives the bits of a run that went straight through."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from same_bits import assert_same_bits

from crystrata.prediction.predict import predict_files
from crystrata.prediction.trained_model import load_model
from crystrata.runs.directory import ARTIFACTS, BEST, CHECKPOINT, CONFIG, HISTORY, MANIFEST, RESULTS, SPLITS, TOP
from crystrata.training import parts
from crystrata.training.checkpoints import read_checkpoint
from crystrata.workflows.export import export_model

Launch = Callable[..., int]
Train = Callable[..., Path]

ROUGH = (
    "--algorithm", "cgcnn", "--level", "smoke", "--max-samples", 120, "--batch-size", 16, "--lr", 0.08,
    "--properties", "formation_energy,band_gap",
)  # fmt: skip
"""A learning rate so high that the score gets worse after the second epoch."""

RUNS: dict[str, tuple[object, ...]] = {
    "cosine": ("--level", "lite", "--max-samples", 80, "--epochs", 4),
    "accumulated": ("--level", "pro", "--preset", "small", "--max-samples", 120, "--epochs", 4),
    "plateau": (*ROUGH, "--epochs", 4),
    "stopped": (*ROUGH, "--epochs", 6, "--patience", 2),
    "soap": ("--level", "lite", "--max-samples", 80, "--epochs", 4, "--optimizer", "soap"),
    "muon": ("--level", "lite", "--max-samples", 80, "--epochs", 4, "--optimizer", "muon"),
}
"""Short runs: e3nn with a cosine, e3nn with 4 micro-batches a step, CGCNN with a plateau that acts, CGCNN that stops
before its last epoch, e3nn with the optimizers that know matrices."""

TIMES = ("seconds",)  # of a history record: the clock


@pytest.fixture(autouse=True)
def _an_impatient_plateau(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate is halved after every epoch that is no better, so that a forgotten epoch would show."""
    monkeypatch.setattr("crystrata.training.callbacks._PLATEAU_PATIENCE", 0)


@pytest.fixture(scope="module", params=RUNS)
def case(request: pytest.FixtureRequest) -> str:
    """A kind of run."""
    return request.param


@pytest.fixture(scope="module")
def straight(case: str, train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is never cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crystrata.training.callbacks._PLATEAU_PATIENCE", 0)
        return train(tmp_path_factory.mktemp("straight"), *RUNS[case])


def content(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


def only_run(models: Path) -> Path:
    (run,) = models.glob("*/run_*")
    return run


def assert_same_run(run: Path, expected: Path) -> None:
    """Every bit of weights, averages and optimizer, every figure and every id; only clocks and names may differ."""
    assert_same_bits(run, expected)
    histories = [
        [{key: value for key, value in record.items() if key not in TIMES} for record in content(path, HISTORY)]
        for path in (run, expected)
    ]
    assert histories[0] == histories[1]
    assert content(run, SPLITS) == content(expected, SPLITS)
    results = [content(path, RESULTS) for path in (run, expected)]
    assert results[0]["tasks"] == results[1]["tasks"]
    assert results[0]["best_epoch"] == results[1]["best_epoch"]


def cut(
    launch: Launch, models: Path, flags: tuple[object, ...], epoch: int, *, step: int = 0, failure: Callable[[], None]
) -> int:
    """Start a run and let `failure` happen at a step of an epoch (both counted from 0)."""
    from crystrata.training.callbacks import MovingAverage

    def on_train_batch_start(self: MovingAverage, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if (trainer.current_epoch, index) == (epoch, step):
            failure()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MovingAverage, "on_train_batch_start", on_train_batch_start, raising=False)
        return launch(models, *flags)


def crash() -> None:
    raise RuntimeError("the machine fails")


def test_a_run_that_failed_and_was_continued_equals_one_that_did_not(
    case: str, straight: Path, launch: Launch, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="the machine fails"):
        cut(launch, tmp_path, RUNS[case], 2, step=2, failure=crash)
    run = only_run(tmp_path)
    assert content(run, MANIFEST)["status"] == "failed"
    assert [record["epoch"] for record in content(run, HISTORY)] == [1, 2]
    assert launch(tmp_path, *RUNS[case], "--resume") == 0
    assert only_run(tmp_path) == run  # in the same directory
    assert_same_run(run, straight)
    manifest = content(run, MANIFEST)
    assert manifest["status"] == "completed"
    assert manifest["resumed"][-1] == "cpu"
    assert "--resume" in manifest["resumed"]
    assert "--resume" not in manifest["command"]
    assert manifest.get("error") is None  # it is repaired


def test_each_case_shows_what_it_is_for(case: str, straight: Path) -> None:
    """Else it would prove nothing."""
    history, config = content(straight, HISTORY), content(straight, CONFIG)
    rates = [record["lr"] for record in history]
    if case in ("plateau", "stopped"):
        assert rates == [0.08, 0.08, 0.04, 0.02]
        assert content(straight, RESULTS)["best_epoch"] == 2
    else:
        assert all(after < before for before, after in pairwise(rates))
        assert rates[-1] < 0.1 * rates[0]
    assert len(history) == 4
    assert config["epochs"] == (6 if case == "stopped" else 4)
    assert config["accumulate"] == (4 if case == "accumulated" else 1)
    assert config["optimizer"] == (case if case in ("soap", "muon") else "adamw")


@pytest.mark.parametrize("case", ["accumulated", "stopped"], indirect=True)
def test_a_run_can_be_cut_after_every_epoch(launch: Launch, straight: Path, case: str, tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        again = () if epoch == 1 else ("--resume",)
        with pytest.raises(RuntimeError, match="the machine fails"):
            cut(launch, tmp_path, (*RUNS[case], *again), epoch, failure=crash)
    assert launch(tmp_path, *RUNS[case], "--resume") == 0
    assert_same_run(only_run(tmp_path), straight)


@pytest.mark.parametrize("case", ["stopped"], indirect=True)
def test_a_run_that_stopped_early_is_not_trained_on(case: str, straight: Path, launch: Launch, tmp_path: Path) -> None:
    """Continuing it with the same flags evaluates it again, and no more."""
    models = Path(shutil.copytree(straight.parents[1], tmp_path / "models"))
    assert launch(models, *RUNS[case], "--resume") == 0
    assert_same_run(only_run(models), straight)


def test_control_c_interrupts_a_run_that_can_be_continued(
    launch: Launch, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = RUNS["plateau"]
    code = cut(launch, tmp_path / "cut", flags, 2, step=1, failure=lambda: signal.raise_signal(signal.SIGINT))
    assert code == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted by SIGINT"
    run = only_run(tmp_path / "cut")
    assert content(run, MANIFEST)["status"] == "interrupted"
    assert launch(tmp_path / "cut", *flags, "--resume") == 0
    assert_same_run(run, train(tmp_path / "straight", *flags))


def test_control_c_still_works_afterwards(launch: Launch, tmp_path: Path) -> None:
    """A run must not leave the process deaf to Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)
    assert cut(launch, tmp_path, RUNS["plateau"], 0, failure=lambda: signal.raise_signal(signal.SIGINT)) == 130
    assert signal.getsignal(signal.SIGINT) == before


def test_a_second_control_c_stops_within_the_step(launch: Launch, tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the step went on")

    assert cut(launch, tmp_path, RUNS["plateau"], 0, failure=twice) == 130


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process without warning")
@pytest.mark.parametrize("case", ["accumulated"], indirect=True)
def test_a_killed_run_is_continued_exactly(
    straight: Path, case: str, launch: Launch, data_dir: Path, root: Path, tmp_path: Path
) -> None:
    where = ("--source", "demo", "--data-dir", data_dir, "--models-dir", tmp_path, "--device", "cpu")
    script = root / "scripts" / "phase2_multitask" / "run_phase2.py"
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *map(str, (*RUNS[case], *where))]
    with open(tmp_path / "output", "wb") as output, subprocess.Popen(
        command, stdout=output, stderr=output, env=environment
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline and epochs_done(tmp_path) < 2:
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL, (tmp_path / "output").read_text()
    run = only_run(tmp_path)
    assert content(run, MANIFEST)["status"] == "running"  # nobody was left to write another word
    assert 2 <= len(content(run, HISTORY)) < 4
    assert launch(tmp_path, *RUNS[case], "--resume") == 0
    assert_same_run(run, straight)
    assert content(run, MANIFEST)["status"] == "completed"
    assert not [path.name for path in run.iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize("case", ["cosine"], indirect=True)
def test_a_run_in_parts_moves_to_another_machine_and_goes_on_exactly(
    straight: Path, case: str, launch: Launch, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 100_000)
    with pytest.raises(RuntimeError, match="the machine fails"):
        cut(launch, tmp_path / "here", RUNS[case], 2, failure=crash)
    moved = Path(shutil.copytree(tmp_path / "here", tmp_path / "there"))
    shutil.rmtree(tmp_path / "here")
    run = only_run(moved)
    assert (run / CHECKPOINT).stat().st_size < 10_000
    for folder in (run, run / TOP):  # of a process that was killed while it wrote
        (folder / "checkpoint.pt.0123456789abcdef.1").write_bytes(b"half")
        (folder / ".checkpoint.pt.x.part").write_bytes(b"half")
    assert launch(moved, *RUNS[case], "--resume") == 0
    assert_same_run(run, straight)
    assert_only_whole_files(run)
    assert max(file.stat().st_size for file in run.rglob("*.pt*")) == 100_000
    models = [load_model(path, "cpu") for path in (run, straight, export_model(run, tmp_path / "shared"))]
    assert all(model.calibration is not None for model in models)
    tables = [predict_files(model, [root / "examples" / "cifs"]) for model in models]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    pd.testing.assert_frame_equal(tables[0], tables[2], check_exact=True)


def assert_only_whole_files(run: Path) -> None:
    """Each file can be read, each part is one of them."""
    for folder in (run, run / TOP):
        files = {path.name: path.read_bytes() for path in folder.iterdir() if ".pt" in path.name}
        indices = [text for name, text in files.items() if text.startswith(b"# SHA-256")]
        listed = {line.split()[1].decode() for text in indices for line in text.splitlines()[1:]}
        assert files.keys() - listed == {name for name in files if name.endswith(".pt")}
        assert all(read_checkpoint(folder / name) for name in files.keys() - listed)


@pytest.mark.slow
def test_the_pro_network_is_carried_in_parts_of_15_megabytes(train: Train, launch: Launch, tmp_path: Path) -> None:
    flags = ("--level", "pro", "--max-samples", 60)
    straight = train(tmp_path / "straight", *flags, "--epochs", 2)
    with pytest.raises(RuntimeError, match="the machine fails"):
        cut(launch, tmp_path / "cut", (*flags, "--epochs", 2), 1, failure=crash)
    moved = Path(shutil.copytree(tmp_path / "cut", tmp_path / "moved"))
    assert launch(moved, *flags, "--epochs", 2, "--resume") == 0
    run = only_run(moved)
    assert_same_run(run, straight)
    assert_only_whole_files(run)
    assert max(file.stat().st_size for file in run.rglob("*")) == 15_000_000
    assert len(list(run.glob("checkpoint.pt.*.2"))) == len(list(run.glob("checkpoint*.pt"))) > 1


def epochs_done(models: Path) -> int:
    """Epochs whose checkpoint is on disk: the one file that is written last."""
    checkpoints, histories = ([*models.glob(f"*/run_*/{name}")] for name in (CHECKPOINT, HISTORY))
    if not checkpoints or not histories:
        return 0
    fresh = checkpoints[0].stat().st_mtime_ns >= histories[0].stat().st_mtime_ns
    return len(json.loads(histories[0].read_text())) - (not fresh)


FLAGS = ("--algorithm", "cgcnn", "--level", "smoke", "--max-samples", 80)


@pytest.fixture(scope="module")
def finished(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with one finished run of two epochs."""
    models = tmp_path_factory.mktemp("finished")
    train(models, *FLAGS, "--epochs", 2, "--run-id", "mine")
    return models


@pytest.fixture
def models(finished: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(finished, tmp_path / "models"))


def refusal(launch: Launch, capsys: pytest.CaptureFixture[str], models: Path, *flags: object) -> str:
    """The one line with which a resume is refused, exit code 2; no file is touched."""
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*") if path.is_file()}
    assert launch(models, *flags) == 2
    assert {path: path.stat().st_mtime_ns for path in models.rglob("*") if path.is_file()} == before
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--level", "lite"), "none there has a checkpoint.pt"),  # another family
        (("--algorithm", "cgcnn", "--level", "std"), "run_mine; add --level smoke --size small to continue it"),
        ((*FLAGS, "--all-properties"), "the newest run there is run_mine; add --properties formation_energy,band_gap,"),
        ((*FLAGS, "--preset", "large"), "the newest run there is run_mine; add --size small to continue it"),
    ],
    ids=str,
)
def test_nothing_to_resume(
    flags: tuple[object, ...], reason: str, launch: Launch, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(launch, capsys, models, *flags, "--resume")
    assert "no run to resume at" in said
    assert reason in said


def test_a_named_run_that_is_not_there(launch: Launch, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run to resume at run_other" in refusal(launch, capsys, models, *FLAGS, "--resume", "run_other")


@pytest.mark.parametrize(
    ("flags", "difference"),
    [
        (("--batch-size", 8), "batch_size 64 -> 8"),
        (("--lr", 0.5), "lr 0.001 -> 0.5"),
        (("--seed", 1), "seed 42 -> 1"),
        (("--max-samples", 90), "max_samples 80 -> 90"),
    ],
)
def test_other_settings_are_refused_by_name(
    flags: tuple[object, ...],
    difference: str,
    launch: Launch,
    models: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = refusal(launch, capsys, models, *FLAGS, "--epochs", 2, *flags, "--resume")
    assert f"was started with other settings ({difference})" in said


def test_only_what_matters_is_called_a_difference(
    launch: Launch, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(launch, capsys, models, *FLAGS, "--epochs", 5, "--workers", 1, "--lr", 0.5, "--resume")
    assert "(lr 0.001 -> 0.5)" in said


@pytest.mark.parametrize("damage", ["cut", "foreign", "no configuration"])
def test_a_damaged_run_is_refused(
    damage: str, launch: Launch, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = only_run(models)
    if damage == "no configuration":
        (run / CONFIG).write_text("{")
    for file in run.glob("checkpoint*.pt") if damage != "no configuration" else ():
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"something else")
    assert launch(models, *FLAGS, "--epochs", 3, "--resume") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "damaged" in said
    assert str(run) in said
    assert BEST not in said
    assert (run / BEST).is_file()


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(
    launch: Launch, finished: Path, models: Path, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = only_run(models)
    content_of = bytearray((run / CHECKPOINT).read_bytes())
    content_of[len(content_of) // 2] ^= 1
    (run / CHECKPOINT).write_bytes(content_of)
    assert launch(models, *FLAGS, "--epochs", 4, "--resume") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "does not fit its SHA-256; continuing from checkpoint.1.pt" in said
    other = Path(shutil.copytree(finished, tmp_path / "undamaged"))
    assert launch(other, *FLAGS, "--epochs", 4, "--resume") == 0
    assert_same_run(run, only_run(other))


def test_more_epochs_go_on_from_the_last(launch: Launch, models: Path) -> None:
    run = only_run(models)
    before = content(run, HISTORY)
    assert launch(models, *FLAGS, "--epochs", 4, "--resume") == 0
    history = content(run, HISTORY)
    assert history[:2] == before
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]
    assert [record["step"] for record in history] == [1, 2, 3, 4]
    assert content(run, CONFIG)["epochs"] == 4
    assert content(run, MANIFEST)["status"] == "completed"
    assert content(run, RESULTS)["split"] == content(only_run(models), RESULTS)["split"]


@pytest.mark.parametrize("named", [False, True])
def test_fewer_epochs_are_refused_and_the_run_stays_as_it_was(
    named: bool, launch: Launch, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in models.rglob("*") if path.is_file()}
    resume = ("--resume", only_run(models)) if named else ("--resume",)
    said = refusal(launch, capsys, models, *FLAGS, "--epochs", 1, *resume)
    assert "has 2 epochs behind it, and --epochs 1 asks for fewer: give 2 or more" in said
    assert {path: path.read_bytes() for path in models.rglob("*") if path.is_file()} == before


def test_the_log_keeps_the_epochs_before(launch: Launch, models: Path) -> None:
    assert launch(models, *FLAGS, "--epochs", 4, "--resume") == 0
    logs = sorted((only_run(models) / "logs").rglob("metrics.csv"))
    rows = pd.concat([pd.read_csv(io.StringIO(path.read_text())) for path in logs])
    assert sorted(rows.dropna(subset="val_score")["epoch"].unique()) == [0, 1, 2, 3]


def test_a_finished_run_is_evaluated_again(launch: Launch, models: Path) -> None:
    run = only_run(models)
    kept = {name: (run / name).read_bytes() for name in (BEST, HISTORY, SPLITS)}
    before, device = content(run, RESULTS), content(run, MANIFEST)["device"]
    for name in set(ARTIFACTS) - {BEST, CHECKPOINT, CONFIG, HISTORY, MANIFEST, SPLITS}:
        (shutil.rmtree if (run / name).is_dir() else os.remove)(run / name)
    assert launch(models, *FLAGS, "--epochs", 2, "--resume") == 0
    assert {name: (run / name).read_bytes() for name in kept} == kept
    assert content(run, RESULTS) == before
    assert content(run, MANIFEST)["device"] == device != ""
    assert {name for name in ARTIFACTS if not (run / name).exists()} == set()


@pytest.mark.parametrize("name", ["run_mine", "path"])
def test_a_run_can_be_named(name: str, launch: Launch, models: Path) -> None:
    run = only_run(models)
    other = run.with_name("run_newer")
    shutil.copytree(run, other)
    os.utime(other / CHECKPOINT)
    assert launch(models, *FLAGS, "--epochs", 3, "--resume", run if name == "path" else name) == 0
    assert [len(content(path, HISTORY)) for path in (run, other)] == [3, 2]


def test_the_newest_run_is_taken(launch: Launch, models: Path) -> None:
    run = only_run(models)
    other = run.with_name("run_a_newer")
    shutil.copytree(run, other)
    os.utime(other / CHECKPOINT)
    assert launch(models, *FLAGS, "--epochs", 3, "--resume") == 0
    assert [len(content(path, HISTORY)) for path in (run, other)] == [2, 3]


def test_a_moved_data_folder_is_no_difference(
    launch: Launch, models: Path, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where data lie does not decide a result: the saved configuration takes over the new place."""
    run = only_run(models)
    saved = content(run, CONFIG)
    (run / CONFIG).write_text(json.dumps({**saved, "data_dir": str(tmp_path / "gone")}))
    assert launch(models, *FLAGS, "--epochs", 3, "--resume") == 0
    assert content(run, CONFIG)["data_dir"] == str(data_dir)
