"""The registry of runs: appended by many, spoiled by none; which run `best` and `latest` mean."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from crystrata.errors import ModelError
from crystrata.files import write_json
from crystrata.runs.config import RunConfig, resolve_config
from crystrata.runs.directory import BEST, RESULTS
from crystrata.runs.find import find_model
from crystrata.runs.manifest import end_manifest, start_manifest
from crystrata.runs.registry import REGISTRY, REGISTRY_CSV, RunEntry, read_registry, register_run

SOURCE = {"source": {"name": "dft", "digest": "d1", "demo": False}, "split": {"protocol": "random", "digest": "s1"}}
ALL = tuple("formation_energy band_gap bulk_modulus shear_modulus".split())


def ended_run(
    models: Path, run_id: str, *, status: str = "completed", mode: str = "std", score: float = 0.5, **facts: Any
) -> RunConfig:
    """Make the files of a run that ended and register it."""
    names = facts.pop("properties", ALL)
    config = resolve_config("e3nn", mode, properties=names, models_dir=str(models), run_id=run_id)
    run = config.family_dir / f"run_{run_id}"
    run.mkdir(parents=True, exist_ok=True)
    start_manifest(run, config, ["test"], **{**SOURCE, "materials": {"train": 80}, **facts})
    if status == "completed":
        (run / BEST).write_bytes(b"weights")
        parts = {name: {"val": {"mae": score}, "test": {"mae": 2 * score}} for name in names}
        parts[names[-1]]["test"] = None  # type: ignore[assignment]
        write_json(run / RESULTS, {"tasks": parts, "val_score": score, "score": 50.0, "balanced_score": 49.0,
                                   "hours": 1.0})  # fmt: skip
    end_manifest(run, status, **({} if status == "completed" else {"error": "TrainingError: lost"}))
    register_run(run, config)
    return config


def test_an_entry_tells_what_the_run_was_and_how_good_it_is(tmp_path: Path) -> None:
    config = ended_run(tmp_path, "a", score=0.25)
    [entry] = read_registry(tmp_path)
    assert (entry.run_id, entry.family, entry.path) == ("run_a", "multitask_std_e3nn", "multitask_std_e3nn/run_a")
    assert (entry.algorithm, entry.mode, entry.encoder, entry.size) == ("e3nn", "std", "e3nn", "std")
    assert (entry.source, entry.source_digest, entry.demo) == ("dft", "d1", False)
    assert (entry.split, entry.split_digest, entry.train_crystals) == ("random", "s1", 80)
    assert entry.config_digest == config.digest()
    assert entry.val_mae == dict.fromkeys(ALL, 0.25)
    assert entry.test_mae == dict.fromkeys(ALL[:-1], 0.5)  # the last property has no test label
    assert (entry.val_score, entry.score, entry.balanced_score, entry.hours) == (0.25, 50.0, 49.0, 1.0)
    assert entry.completed
    assert entry.started <= entry.ended
    assert entry.versions["crystrata"]
    assert RunEntry.from_dict({**json.loads(json.dumps(asdict(entry))), "of a later version": 1}) == entry


def test_a_run_that_failed_before_its_data_were_open_is_recorded_with_its_reason(tmp_path: Path) -> None:
    config = resolve_config(models_dir=str(tmp_path))
    run = config.family_dir / "run_x"
    run.mkdir(parents=True)
    start_manifest(run, config, ["test"])
    end_manifest(run, "failed", error="DataError: no file")
    entry = register_run(run, config)
    assert (entry.status, entry.error, entry.completed) == ("failed", "DataError: no file", False)
    assert (entry.source, entry.split_digest, entry.test_mae, entry.score) == (None, None, {}, None)
    assert read_registry(tmp_path) == [entry]


def test_a_continued_run_has_two_lines_of_which_the_last_counts(tmp_path: Path) -> None:
    ended_run(tmp_path, "a", status="interrupted")
    ended_run(tmp_path, "b")
    ended_run(tmp_path, "a")
    assert len((tmp_path / REGISTRY).read_text().splitlines()) == 3
    assert [(entry.run_id, entry.status) for entry in read_registry(tmp_path)] == [
        ("run_b", "completed"),
        ("run_a", "completed"),
    ]


def test_the_csv_holds_one_row_per_run_with_units(tmp_path: Path) -> None:
    ended_run(tmp_path, "a", score=0.25)
    ended_run(tmp_path, "b", status="failed")
    with open(tmp_path / REGISTRY_CSV, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run_id"] for row in rows] == ["run_a", "run_b"]
    assert float(rows[0]["test_mae bulk_modulus [GPa]"]) == 0.5
    assert rows[0]["properties"] == " ".join(ALL)
    assert rows[1]["test_mae bulk_modulus [GPa]"] == ""
    assert rows[1]["error"] == "TrainingError: lost"


@pytest.mark.parametrize("damage", [b'{"run_id": "run_z", "pa', b"\xff\xfe\n", b"[1, 2]\n", b'{"run_id": "z"}\n'])
def test_a_damaged_line_is_skipped_aloud_and_never_blocks(tmp_path: Path, damage: bytes) -> None:
    ended_run(tmp_path, "a")
    with open(tmp_path / REGISTRY, "ab") as file:
        file.write(damage)
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        ended_run(tmp_path, "b")
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        assert [entry.run_id for entry in read_registry(tmp_path)] == ["run_a", "run_b"]


def test_processes_may_append_at_once(tmp_path: Path, root: Path) -> None:
    config = ended_run(tmp_path, "a")
    code = (
        "import sys; from pathlib import Path; from crystrata.runs.config import resolve_config\n"
        "from crystrata.runs.registry import register_run\n"
        "config = resolve_config('e3nn', 'std', models_dir=sys.argv[1])\n"
        "for _ in range(10): register_run(Path(sys.argv[2]), config)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(config.family_dir / "run_a")]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    for process in [subprocess.Popen(command, env=environment) for _ in range(3)]:
        assert process.wait(timeout=120) == 0
    lines = (tmp_path / REGISTRY).read_text().splitlines()
    assert len(lines) == 31
    assert {json.loads(line)["run_id"] for line in lines} == {"run_a"}


def test_best_is_the_lowest_validation_score_among_comparable_runs(tmp_path: Path) -> None:
    ended_run(tmp_path, "good", score=0.4)
    ended_run(tmp_path, "better", score=0.3)
    ended_run(tmp_path, "worse", score=0.6)
    ended_run(tmp_path, "broken", status="failed")
    assert find_model(tmp_path, "best").name == "run_better"
    assert find_model(tmp_path, "latest").name == "run_worse"


@pytest.mark.parametrize(
    "other",
    [
        {"properties": ALL[:1]},  # fewer properties
        {"materials": {"train": 20}, "split": {"protocol": "random", "digest": "s2"}},  # fewer crystals
    ],
)
def test_best_does_not_compare_what_cannot_be_compared(tmp_path: Path, other: dict) -> None:
    ended_run(tmp_path, "wide", score=0.4)
    ended_run(tmp_path, "narrow", score=0.1, **other)
    assert find_model(tmp_path, "best").name == "run_wide"


def test_best_is_among_the_runs_of_the_newest_of_several_equal_splits(tmp_path: Path) -> None:
    ended_run(tmp_path, "old", score=0.1)
    ended_run(tmp_path, "new", score=0.4, split={"protocol": "random", "digest": "s2"})
    assert find_model(tmp_path, "best").name == "run_new"


def test_best_passes_over_demo_smoke_and_lite_runs(tmp_path: Path) -> None:
    for mode in ("smoke", "lite"):
        ended_run(tmp_path, mode, mode=mode, score=0.1)
    ended_run(tmp_path, "demo", score=0.1, source={"name": "demo", "digest": "d0", "demo": True})
    with pytest.raises(ModelError, match="3 demo, smoke, lite and leaderboard runs are"):
        find_model(tmp_path, "best")
    ended_run(tmp_path, "real", score=0.9)
    assert find_model(tmp_path, "best").name == "run_real"


def test_best_counts_the_nine_properties_alone(tmp_path: Path) -> None:
    ended_run(tmp_path, "official", score=0.1, properties=("ehull_official",))
    with pytest.raises(ModelError, match="leaderboard runs"):
        find_model(tmp_path, "best")
    ended_run(tmp_path, "wide", score=0.2)
    ended_run(tmp_path, "as-wide", score=0.3, properties=(*ALL[:3], "ehull_official"))
    assert find_model(tmp_path, "best").name == "run_wide"


def test_a_run_whose_weights_are_gone_is_not_chosen(tmp_path: Path) -> None:
    config = ended_run(tmp_path, "a", score=0.1)
    ended_run(tmp_path, "b", score=0.2)
    (config.family_dir / "run_a" / BEST).unlink()
    assert find_model(tmp_path, "best").name == "run_b"


def test_a_path_is_taken_as_it_stands_and_an_empty_registry_says_what_to_do(tmp_path: Path) -> None:
    assert find_model(tmp_path, "some/run_1") == Path("some/run_1")
    for name in ("best", "latest"):
        with pytest.raises(ModelError, match="train one"):
            find_model(tmp_path, name)


def test_a_models_folder_that_was_moved_keeps_its_registry(tmp_path: Path) -> None:
    ended_run(tmp_path / "models", "a")
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    assert (find_model(tmp_path / "elsewhere", "best") / BEST).is_file()


def test_of_a_family_it_is_the_newest_run(tmp_path: Path) -> None:
    ended_run(tmp_path, "old")
    ended_run(tmp_path, "new")
    ended_run(tmp_path, "check", mode="smoke")
    stopped = ended_run(tmp_path, "stopped", mode="pro", status="interrupted")
    (stopped.family_dir / "run_stopped" / BEST).write_bytes(b"weights")
    assert find_model(tmp_path, family="multitask_std_e3nn").name == "run_check"
    ended_run(tmp_path, "old", score=0.9)  # continued: now it is the one that ended last
    assert find_model(tmp_path, family="multitask_std_e3nn").name == "run_old"
    with pytest.raises(ModelError, match="did you mean 'multitask_std_e3nn'"):
        find_model(tmp_path, family="multitask_std_e3n")


def test_a_specialist_has_a_family_of_its_own(tmp_path: Path) -> None:
    config = resolve_config("e3nn", "std", properties=["band_gap"], single_task=True, models_dir=str(tmp_path))
    run = config.family_dir / "run_gap"
    run.mkdir(parents=True)
    (run / BEST).write_bytes(b"weights")
    start_manifest(run, config, ["test"], **SOURCE)
    write_json(run / RESULTS, {})
    end_manifest(run, "completed")
    register_run(run, config)
    assert find_model(tmp_path, family="singletask_std_e3nn/band_gap") == run


def test_a_csv_form_that_is_held_open_does_not_fail_the_run(tmp_path: Path) -> None:
    (tmp_path / REGISTRY_CSV).mkdir(parents=True)  # as little to be replaced as a file that a spreadsheet holds
    with pytest.warns(UserWarning, match="cannot write .*registry.csv"):
        ended_run(tmp_path, "a")
    assert [entry.run_id for entry in read_registry(tmp_path)] == ["run_a"]
