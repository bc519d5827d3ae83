"""Runs over tasks as folders to share: cards say what holds for the run, and no more."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from known_tasks import METALS, OTHERS
from rich.console import Console

from crystrata.design.trained import TrainedCompositions
from crystrata.errors import UsageError
from crystrata.reports.model_card import model_card
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import RESULTS
from crystrata.runs.find import CARD, DESCRIPTION
from crystrata.runs.manifest import read_manifest
from crystrata.tasks import parse_tasks
from crystrata.workflows.export import export_model
from crystrata.workflows.run import run as train
from crystrata.workflows.sources import Inputs

FORMULAS = [f"{metal}{n}{other}" for n in (1, 2, 3) for metal in METALS for other in OTHERS]
PARTS = np.resize(["train", "val", "train", "test"], len(FORMULAS))
ENERGY = np.arange(len(FORMULAS)) / 10


def trained(folder: Path, table: dict[str, Any], **fields: Any) -> Path:
    """A run over the tasks `energy` and, where the table has it, `gap`."""
    tasks = [{"name": name, "kind": "regression", "data_column": name} for name in ("energy", "gap") if name in table]
    values: dict[str, Any] = {
        "descriptor": {"kind": "statistics"},
        "composition": "mlp",
        "composition_settings": {"hidden_dims": [None, 8]},
        "latent_stage": "tanh",
        "epochs": 2,
        "device": "cpu",
        "models_dir": str(folder / "models"),
    }
    config = RunConfig(parse_tasks(tasks), **{**values, **fields})
    return train(config, [], Console(quiet=True), inputs=Inputs(pd.DataFrame({"composition": FORMULAS, **table})))


def card_of(run: Path, folder: Path) -> str:
    return (export_model(run, folder, "made") / CARD).read_text(encoding="utf-8")


def interval_row(card: str, task: str) -> dict[str, str]:
    """Column -> cell of the intervals of 90 % of a task in a card."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line[:1] == "|"]
    titles = next(line for line in lines if "level [%]" in line)
    cells = next(line for line in lines if line[0] == task and len(line) == len(titles) and line[2] == "90")
    return dict(zip(titles, cells, strict=True))


def test_a_run_without_a_test_part_is_exported(tmp_path: Path) -> None:
    run = trained(tmp_path, {"energy": ENERGY}, test_split=0.0, val_split=0.3)
    results = json.loads((run / RESULTS).read_text())
    assert results["tasks"]["energy"]["test"] is None
    level = results["intervals"]["energy"]["levels"]["90"]
    assert level["all"]["coverage"] is None
    row = interval_row(card_of(run, tmp_path), "energy")
    assert float(row["half width of all"]) == pytest.approx(level["half_width"], rel=1e-3)


def test_a_task_without_labels_in_the_test_part_has_no_coverage(tmp_path: Path) -> None:
    gap = np.where(PARTS == "test", np.nan, ENERGY)
    run = trained(tmp_path, {"energy": ENERGY, "gap": gap, "split": PARTS})
    results = json.loads((run / RESULTS).read_text())
    assert results["tasks"]["gap"]["test"] is None
    levels = {name: found["levels"]["90"] for name, found in results["intervals"].items()}
    assert levels["gap"]["all"]["coverage"] is None
    assert 0 <= levels["energy"]["all"]["coverage"] <= 1
    card = card_of(run, tmp_path)
    assert interval_row(card, "energy")["coverage [%]"] == f"{100 * levels['energy']['all']['coverage']:.4g}"
    assert "nan" not in card.lower()


@pytest.mark.parametrize(("kind", "designs"), [("kernel_mean", True), ("statistics", False)])
def test_a_card_names_the_command_that_takes_the_model(kind: str, designs: bool, tmp_path: Path) -> None:
    run = trained(tmp_path, {"energy": ENERGY}, descriptor={"kind": kind}, epochs=1)
    card = card_of(run, tmp_path)
    assert ("crystrata design" in card) is designs
    assert "crystrata predict --model made" in card
    accepted = pytest.raises(UsageError, match="design needs kernel_mean") if not designs else nullcontext()
    with accepted:
        TrainedCompositions.load(tmp_path / "made", "cpu")
    for claim in ("DFT", "most stable"):  # no label of this table is computed, and no polymorph was left out
        assert claim not in card
    assert "`by-table`, seed 42" in card or "`rare first`, seed 42" in card
    assert "all polymorphs get one answer" in card
    description = json.loads((tmp_path / "made" / DESCRIPTION).read_text())
    description["network"]["structure"] = "cgcnn"
    fused = model_card(description, json.loads((run / RESULTS).read_text()), read_manifest(run))
    assert "from a formula and a structure" in fused
    assert "polymorphs" not in fused


def test_a_card_tells_the_split_that_the_table_states(tmp_path: Path) -> None:
    card = card_of(trained(tmp_path, {"energy": ENERGY, "split": PARTS}, epochs=1), tmp_path)
    assert "split column`, seed 42" in card
