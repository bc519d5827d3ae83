"""The same seed gives the same bits: in one process, and in a fresh one that hashes and loads data differently."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from crystrata.runs.directory import BEST, HISTORY, PREDICTIONS, SPLITS

Train = Callable[..., Path]

RUNS: dict[str, tuple[object, ...]] = {
    "e3nn": ("--level", "lite", "--epochs", 1, "--max-samples", 80, "--all-properties"),
    "cgcnn": ("--algorithm", "cgcnn", "--level", "smoke", "--epochs", 2, "--max-samples", 120, "--batch-size", 16),
}

FRESH = """
import json, sys
from crystrata.cli.train import main
from crystrata.workflows import evaluate
evaluate.png_of = lambda figure: b"no figure"
sys.exit(max(main(flags) for flags in json.loads(sys.argv[1])))
"""
"""Trains several runs in one process: most of its time goes into imports."""


@pytest.fixture(scope="module", params=RUNS)
def case(request: pytest.FixtureRequest) -> str:
    """A kind of run."""
    return request.param


@pytest.fixture(scope="module")
def run(case: str, train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that others are compared with."""
    return train(tmp_path_factory.mktemp("first"), *RUNS[case])


@pytest.fixture(scope="module")
def fresh(data_dir: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same runs made by another process, with another order of sets and, for CGCNN, a process that loads data."""
    folders = {case: tmp_path_factory.mktemp(f"fresh_{case}") for case in RUNS}
    flags = [
        (*RUNS[case], "--source", "demo", "--data-dir", data_dir, "--models-dir", folder, "--device", "cpu",
         "--workers", int(case == "cgcnn"))
        for case, folder in folders.items()
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", FRESH, json.dumps([[*map(str, each)] for each in flags])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {case: next(folder.glob("*/run_*")) for case, folder in folders.items()}


def bits(run: Path) -> dict[str, Any]:
    """Everything that a run has found out; only clocks are left out."""
    state = torch.load(run / BEST, weights_only=True)["state"]
    history = json.loads((run / HISTORY).read_text())
    return {
        **{f"weights {name}": tensor.numpy().tobytes() for name, tensor in state.items()},
        "history": [{key: value for key, value in record.items() if key != "seconds"} for record in history],
        "split": json.loads((run / SPLITS).read_text()),
        "predictions": (run / PREDICTIONS).read_text(),
    }


def differing(one: Path, other: Path) -> list[str]:
    """Names of what two runs do not share to the last bit."""
    first, second = bits(one), bits(other)
    assert first.keys() == second.keys()
    return [name for name in first if first[name] != second[name]]


def test_the_same_seed_gives_the_same_bits_and_another_others(
    case: str, run: Path, train: Train, tmp_path: Path
) -> None:
    assert differing(run, train(tmp_path / "again", *RUNS[case])) == []
    other = train(tmp_path / "other", *RUNS[case], "--seed", 7)
    assert {"history", "split", "predictions"} < set(differing(run, other))


def test_a_fresh_process_gives_the_same_bits(case: str, run: Path, fresh: dict[str, Path]) -> None:
    assert differing(run, fresh[case]) == []
