"""Runs on the demo crystals, trained by the command that a person types, and shared by the tests of a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crystrata.cli.train import main
from crystrata.sources.demo import open_demo
from crystrata.sources.table import CrystalTable

LITE = ("--level", "lite", "--all-properties")
CGCNN = ("--algorithm", "cgcnn", "--level", "smoke", "--epochs", "2", "--max-samples", "120")


@pytest.fixture(scope="session")
def demo() -> CrystalTable:
    """The demo crystals, made once."""
    return open_demo()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the demo store and its hulls, shared by all runs."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def launch(demo: CrystalTable, data_dir: Path) -> Callable[..., int]:
    """Calls `crystrata train` on the demo crystals; returns its exit code. Figures take a second: only if asked for."""

    def call(models: Path, *flags: object, figures: bool = False) -> int:
        where = ["--source", "demo", "--data-dir", data_dir, "--models-dir", models, "--device", "cpu"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("crystrata.sources.opening.open_demo", lambda: demo)
            if not figures:
                patch.setattr("crystrata.workflows.evaluate.png_of", lambda figure: b"no figure")
            return main([*map(str, (*flags, *where))])

    return call


@pytest.fixture(scope="session")
def train(launch: Callable[..., int]) -> Callable[..., Path]:
    """Trains a run to its end under a models folder of its own; returns its directory."""

    def trained(models: Path, *flags: object, figures: bool = False) -> Path:
        before = set(models.glob("*/run_*"))
        assert launch(models, *flags, figures=figures) == 0
        (run,) = set(models.glob("*/run_*")) - before
        return run

    return trained


@pytest.fixture(scope="session")
def lite_run(train: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete e3nn lite run of all nine properties."""
    return train(tmp_path_factory.mktemp("lite"), *LITE, figures=True)


@pytest.fixture(scope="session")
def cgcnn_run(train: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short CGCNN run of the default four properties."""
    return train(tmp_path_factory.mktemp("cgcnn"), *CGCNN)
