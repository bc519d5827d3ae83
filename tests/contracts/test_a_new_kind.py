"""A new kind of task is one file and one row: it passes the contract suite, is trained, saved, loaded and predicts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from known_tasks import label_table
from rich.console import Console

from crystrata import tasks
from crystrata.networks import heads
from crystrata.prediction.predict import Formula, predict
from crystrata.prediction.trained_model import load_model
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import RESULTS
from crystrata.workflows.run import run
from crystrata.workflows.sources import Inputs

HERE = Path(__file__).parent
FOLDER, ROW = HERE / "new_kind", ("poisson", tasks.Kind("poisson.PoissonHead"))
MODULE = f"{heads.__name__}.poisson"

SUITE = f"""
import sys, pytest
from crystrata import tasks
from crystrata.networks import heads
heads.__path__.append({str(FOLDER)!r})  # as if the file stood beside the others
tasks.KINDS["poisson"] = tasks.Kind("poisson.PoissonHead")
sys.exit(pytest.main([{str(HERE / "test_heads.py")!r}, "-q", "-k", "poisson or has_a_case", "-p", "no:cacheprovider"]))
"""


@pytest.fixture
def new_kind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The row and the file, for one test."""
    monkeypatch.setattr(heads, "__path__", [*heads.__path__, str(FOLDER)])
    monkeypatch.setitem(tasks.KINDS, *ROW)
    yield
    sys.modules.pop(MODULE, None)


def test_the_contract_suite_covers_it_without_new_test_code(root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SUITE], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = int(done.stdout.rsplit(" passed", 1)[0].split()[-1])
    assert passed >= 20


@pytest.mark.usefixtures("new_kind")
def test_it_is_trained_saved_loaded_and_predicts(tmp_path: Path) -> None:
    labels = label_table().assign(count=lambda table: np.arange(len(table)) % 7)
    config = RunConfig(
        (tasks.Task("count", "poisson", columns=("count",)),),
        composition="mlp",
        composition_settings={"hidden_dims": [None, 16, 8]},
        descriptor={"kind": "statistics"},
        epochs=3,
        val_split=0.2,
        test_split=0.2,
        device="cpu",
        models_dir=str(tmp_path),
    )
    path = run(config, [], Console(quiet=True), inputs=Inputs(table=labels))
    results = json.loads((path / RESULTS).read_text())["tasks"]["count"]
    assert results["kind"] == "poisson"
    assert 0 < results["test"]["mae"] < np.inf
    predicted = predict(load_model(path, "cpu"), [Formula("NaCl"), Formula("Fe2O3")])["count"]
    assert np.isfinite(predicted).all()
    assert (predicted >= 0).all()
