"""What all tests share: one thread per process, no display, the same examples every time, the path of the real data."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported; xdist's processes share the cores
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("crystrata", deadline=None, derandomize=True)  # no test depends on the clock or on luck
settings.load_profile("crystrata")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Seed every generator in use before each test; torch only where a test has imported it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the models that come with the package: what a test sees does not depend on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crystrata.runs.find.SHIPPED", tmp_path_factory.getbasetemp() / "nothing shipped")
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """Folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def jarvis_file() -> Path:
    """The JARVIS-DFT table (parquet) that CRYSTRATA_JARVIS names; the test is skipped where it names none."""
    named = os.environ.get("CRYSTRATA_JARVIS")
    if not named:
        pytest.skip("CRYSTRATA_JARVIS does not name a JARVIS-DFT parquet file")
    return Path(named)
