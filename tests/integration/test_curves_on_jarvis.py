"""The heads of curves on phonon densities of states of JARVIS-DFT, from nothing but the number of the crystal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from crystrata.datasets.batch import Targets
from crystrata.networks.heads import build_head
from crystrata.networks.latent import Latent
from crystrata.tasks import Task

CURVES, BINS = 300, 66


@pytest.fixture(scope="module")
def densities(jarvis_file: Path) -> torch.Tensor:
    """Phonon densities of states of 300 crystals, (300, 66), on -300 to 1000 [1/cm]."""
    file = jarvis_file.with_name("jarvis_phdos.parquet")
    if not file.is_file():
        pytest.skip(f"no {file.name} beside the JARVIS-DFT file")
    return torch.tensor(np.stack(pd.read_parquet(file)["ph_dos"].iloc[:CURVES]), dtype=torch.float)


TASKS = {
    "curve": Task("dos", "curve", columns=("ph_dos",), t_column="frequency"),
    "vec": Task("dos", "sequence", columns=("ph_dos",), head={"subtype": "vec", "seq_len": BINS}),
}


@pytest.mark.parametrize("kind", TASKS)
def test_curves_are_fitted_far_better_than_by_one_for_all(densities: torch.Tensor, kind: str) -> None:
    grid = torch.linspace(-300, 1000, BINS).repeat(CURVES)
    values = densities.flatten()
    known = torch.rand(values.shape, generator=torch.Generator().manual_seed(1)) < 0.8
    labels = Targets(values.where(known, torch.nan), known, grid, torch.full((CURVES,), BINS))
    head = build_head(TASKS[kind], CURVES)
    labels = labels.padded() if head.form == "padded" else labels
    head.fit(labels)
    ids = Latent(torch.eye(CURVES))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(120):
        total, count = head.loss(head(ids, labels), ids, labels)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    with torch.no_grad():
        predicted = head.predict(head(ids, labels), ids).reshape(CURVES, BINS)
    seen = known.reshape(CURVES, BINS)
    mean_curve = densities.where(seen, 0.0).sum(0) / seen.sum(0)
    constant = densities[seen].mean()

    def error(guess: torch.Tensor, where: torch.Tensor) -> float:
        return float((guess.expand_as(densities) - densities)[where].square().mean())

    fitted, one_for_all, flat = (error(guess, seen) for guess in (predicted, mean_curve, constant))
    print(
        f"{kind}: {fitted:.5f}, the mean curve {one_for_all:.5f}, a constant {flat:.5f}; "
        f"hidden points {error(predicted, ~seen):.5f} and {error(mean_curve, ~seen):.5f}"
    )
    assert one_for_all < flat
    assert fitted < 0.25 * one_for_all
    if kind == "curve":  # its kernels carry a curve across the points that were never shown
        assert error(predicted, ~seen) < 0.8 * error(mean_curve, ~seen)
