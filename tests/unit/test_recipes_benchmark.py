"""The log of recipes: what is kept of a training, the order of the page, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crystrata.jarvis_properties import NINE
from crystrata.runs.config import resolve_config
from crystrata.runs.directory import CONFIG, HISTORY, MANIFEST
from recipes import main, on_record, read_trial
from recipes_page import page


def made_run(folder: Path, name: str, scores: list[float], **changes: Any) -> Path:
    run = folder / f"run_{name}"
    run.mkdir()
    config = resolve_config("e3nn", "std", properties=NINE, models_dir=str(folder), run_id=name, **changes)
    history = [
        {"epoch": epoch, "val_score": score, "val_mae": {"band_gap": score / 2}, "seconds": 10.0}
        for epoch, score in enumerate(scores, start=1)
    ]
    facts = {"materials": {"train": 12800}, "split": {"protocol": "union (sample)", "digest": "0123456789abcdef"}}
    for file, content in {CONFIG: config.as_dict(), HISTORY: history, MANIFEST: facts}.items():
        (run / file).write_text(json.dumps(content))
    return run


def kept(folder: Path, *runs: Path, told: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    for run in runs:
        settings = [word for item in told for word in ("--set", item)]
        assert main(["--from", str(run), *settings, "--record", str(folder / "recipes.json")]) == 0
    return on_record(folder / "recipes.json")


def test_the_best_and_the_last_epoch_are_kept(tmp_path: Path) -> None:
    trial = read_trial(made_run(tmp_path, "a", [0.5, 0.3, 0.4], epochs=24, weight_decay=0.05), {"dropout": 0.1})
    assert trial["best"] == {"epoch": 2, "val_mae": {"band_gap": 0.15}}
    assert trial["final"] == {"val_mae": {"band_gap": 0.2}}
    assert (trial["epochs"], trial["seconds"], trial["cpu_seconds"]) == (3, 30.0, None)
    assert trial["settings"]["weight_decay"] == 0.05
    assert (trial["settings"]["epochs"], trial["settings"]["dropout"]) == (24, 0.1)
    assert str(tmp_path) not in json.dumps(trial)


def test_a_run_that_went_on_replaces_its_record(tmp_path: Path) -> None:
    runs = [made_run(tmp_path, "a", [0.5, 0.3]), made_run(tmp_path, "b", [0.5], seed=1)]
    assert len(kept(tmp_path, *runs)) == 2
    history = json.loads((runs[0] / HISTORY).read_text())
    (runs[0] / HISTORY).write_text(json.dumps([*history, {**history[-1], "epoch": 3, "val_score": 0.2}]))
    trials = kept(tmp_path, runs[0])
    assert [trial["epochs"] for trial in trials] == [1, 3]
    assert len(kept(tmp_path, runs[0], told=("dielectric.transform=identity",))) == 3


def test_the_page_has_the_best_score_first_and_names_what_differs(tmp_path: Path) -> None:
    runs = [
        made_run(tmp_path, "a", [0.5, 0.3, 0.4], weight_decay=0.05, epochs=3),
        made_run(tmp_path, "b", [0.5, 0.25], weight_decay=0.2, epochs=3),
    ]
    kept(tmp_path, *runs)
    text = (tmp_path / "recipes.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| 0.")]
    assert rows == [
        ["0.25", "2", "0.25", "2 of 3", "weight_decay 0.2", "42", "20"],
        ["0.3", "2", "0.4", "3 of 3", "weight_decay 0.05", "42", "30"],
    ]
    assert "| weight_decay 0.05 | 0.15 |" in text
    assert "| weight_decay 0.05 | 0.2 |" in text


def test_what_cannot_be_a_trial_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = ["--record", str(tmp_path / "recipes.json")]
    assert main(["--set", "weight_dekay=1", *record]) == 2
    assert "weight_decay" in capsys.readouterr().err
    assert main(["--set", "weight_decay", *record]) == 2
    assert main(["--from", str(tmp_path), *record]) != 0
    assert not (tmp_path / "recipes.json").exists()


def test_a_trial_is_trained_once(tmp_path: Path) -> None:
    command = [
        "--split", "random", "--max-samples", "70", "--data-dir", str(tmp_path), "--set", "source=demo", "--set",
        "epochs=1", "--set", "encoder.channels=8", "--set", "encoder.layers=1", "--record",
        str(tmp_path / "recipes.json"),
    ]  # fmt: skip
    assert main(command) == 0
    [trial] = on_record(tmp_path / "recipes.json")
    assert (trial["epochs"], trial["settings"]["encoder.channels"]) == (1, 8)
    assert trial["cpu_seconds"] > 0
    assert trial["best"]["val_mae"]["formation_energy"] > 0
    assert main(command) == 0
    assert on_record(tmp_path / "recipes.json") == [trial]


def test_the_log_that_is_shipped_makes_the_page_that_is_shipped(root: Path) -> None:
    results = root / "benchmarks" / "results"
    assert page(on_record(results / "recipes.json")) == (results / "recipes.md").read_text(encoding="utf-8")
