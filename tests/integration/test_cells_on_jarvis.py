"""Every cell of the preset table on the complete JARVIS file: started, cut short, and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crystrata.cli.train import main
from crystrata.presets import PRESETS
from crystrata.runs.directory import ARTIFACTS, HISTORY, MANIFEST

SHORT = ["--max-samples", "256"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the graph store of all cells."""
    return tmp_path_factory.mktemp("data")


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "mode"), list(PRESETS))
def test_a_cell_runs_and_resumes(algorithm: str, mode: str, jarvis_file: Path, data_dir: Path, tmp_path: Path) -> None:
    flags = ["--algorithm", algorithm, "--level", mode, "--data-file", str(jarvis_file), *SHORT]
    flags += ["--data-dir", str(data_dir), "--models-dir", str(tmp_path)]
    assert main([*flags, "--epochs", "1"]) == 0
    assert main([*flags, "--epochs", "2", "--resume"]) == 0
    (run,) = tmp_path.glob("*/run_*")
    assert [name for name in ARTIFACTS if not (run / name).exists()] == []
    assert [record["epoch"] for record in json.loads((run / HISTORY).read_text())] == [1, 2]
    assert json.loads((run / MANIFEST).read_text())["status"] == "completed"
