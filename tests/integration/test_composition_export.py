"""Runs over tasks as folders to share: cards say what holds for the run, and no more."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from crystrata.reports.composition_card import composition_card
from crystrata.runs.task_config import TaskRunConfig
from crystrata.workflows.task_run import run_tasks
from known_tasks import METALS, OTHERS
from rich.console import Console

from crystrata.design.trained import TrainedCompositions
from crystrata.errors import UsageError
from crystrata.runs.directory import RESULTS
from crystrata.runs.manifest import read_manifest
from crystrata.runs.shipped import CARD, DESCRIPTION
from crystrata.workflows.export import export_model

FORMULAS = [f"{metal}{n}{other}" for n in (1, 2, 3) for metal in METALS for other in OTHERS]
PARTS = np.resize(["train", "val", "train", "test"], len(FORMULAS))
ENERGY = np.arange(len(FORMULAS)) / 10


def trained(folder: Path, table: dict[str, Any], **fields: Any) -> Path:
    """A run over the tasks `energy` and, where the table has it, `gap`."""
    tasks = [{"name": name, "kind": "regression", "data_column": name} for name in ("energy", "gap") if name in table]
    values: dict[str, Any] = {
        "descriptor": {"kind": "statistics"},
        "encoder_settings": {"hidden_dims": [None, 8]},
        "epochs": 2,
        "device": "cpu",
        "models_dir": str(folder / "models"),
    }
    config = TaskRunConfig(tuple(tasks), **{**values, **fields})
    return run_tasks(config, [], Console(quiet=True), table=pd.DataFrame({"composition": FORMULAS, **table}))


def card_of(run: Path, folder: Path) -> str:
    return (export_model(run, folder, "made") / CARD).read_text(encoding="utf-8")


def row_of(card: str, task: str) -> dict[str, str]:
    """Column -> cell of a task in the table of a card."""
    lines = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("|")]
    cells = next(line for line in lines if line[0] == task)
    return dict(zip(lines[0], cells, strict=False))


def test_a_run_without_a_test_part_is_exported(tmp_path: Path) -> None:
    run = trained(tmp_path, {"energy": ENERGY}, test_split=0.0, val_split=0.3)
    found = json.loads((run / RESULTS).read_text())["tasks"]["energy"]
    assert found["test"] is None
    assert found["intervals"]["90"]["coverage"] is None
    row = row_of(card_of(run, tmp_path), "energy")
    assert row["labels in test"] == "0"
    assert float(row["half width of 90 %"]) == pytest.approx(found["intervals"]["90"]["half_width"], rel=1e-3)


def test_a_task_without_labels_in_the_test_part_has_no_coverage(tmp_path: Path) -> None:
    gap = np.where(PARTS == "test", np.nan, ENERGY)
    with pytest.warns(UserWarning, match="task 'gap' has no known label in test"):
        run = trained(tmp_path, {"energy": ENERGY, "gap": gap, "split": PARTS})
    tasks = json.loads((run / RESULTS).read_text())["tasks"]
    assert tasks["gap"]["test"] is None
    assert tasks["gap"]["intervals"]["90"]["coverage"] is None
    assert 0 <= tasks["energy"]["intervals"]["90"]["coverage"] <= 1
    card = card_of(run, tmp_path)
    assert row_of(card, "energy")["its coverage"] == f"{tasks['energy']['intervals']['90']['coverage']:.3f}"
    assert "nan" not in card.lower()


@pytest.mark.parametrize(("kind", "designs"), [("kernel_mean", True), ("statistics", False)])
def test_a_card_names_the_command_that_takes_the_model(kind: str, designs: bool, tmp_path: Path) -> None:
    run = trained(tmp_path, {"energy": ENERGY}, descriptor={"kind": kind}, epochs=1)
    card = card_of(run, tmp_path)
    assert ("crystrata design" in card) is designs
    assert (f"crystrata-trainer predict --config FILE --ckpt_path {run.name}" in card) is not designs
    accepted = pytest.raises(UsageError, match="design needs kernel_mean") if not designs else nullcontext()
    with accepted:
        TrainedCompositions.load(tmp_path / "made", "cpu")
    for claim in ("DFT", "most stable"):  # no label of this table is computed, and no polymorph was left out
        assert claim not in card
    assert "by reduced formula, seed 42" in card
    assert "all polymorphs get one answer" in card
    description = json.loads((tmp_path / "made" / DESCRIPTION).read_text())
    description["network"]["graph_encoder"] = "cgcnn"
    fused = composition_card(description, json.loads((run / RESULTS).read_text()), read_manifest(run))
    assert "from a formula and its crystal" in fused
    assert "polymorphs" not in fused


def test_a_card_tells_the_split_that_the_table_states(tmp_path: Path) -> None:
    card = card_of(trained(tmp_path, {"energy": ENERGY, "split": PARTS}, epochs=1), tmp_path)
    assert "split column, seed 42" in card
    assert "reduced formula" not in card
