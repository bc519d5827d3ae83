"""The whole chain with one file: tasks learned one after another, heads trained alone, scenarios searched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_compositions import mean_of

from crystrata.cli.design import main as design
from crystrata.cli.several_runs import continual as continual

METALS = ("Li", "Na", "K", "Mg", "Ca", "Al", "Ti", "Fe", "Cu", "Zn")
CONFIG = """
[rehearsal]
output = {output}
replay = 0.3
last = ["pull"]

[rehearsal.training]
encoder_settings = {{ hidden_dims = [264, 16, 8] }}
epochs = 3
lr = 1e-2
autoencoder = true
device = "cpu"

[[rehearsal.tasks]]
name = "kind"
kind = "classification"
data_files = [{table}]
data_column = "kind"
classes = ["heavy", "light"]

[[rehearsal.tasks]]
name = "pull"
kind = "regression"
data_files = [{table}]
data_column = "pull"

[study]
output = {output}
latent = {{ steps = 5 }}
composition = {{ steps = 10 }}
whitelist = ["Li", "Na", "Mg", "O", "S"]

[study.seeds]
count = 3

[[study.scenarios]]
name = "pulling"
targets = {{ pull = 1.0 }}
class_target = {{ task = "kind", classes = ["light"] }}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all three commands."""
    folder = tmp_path_factory.mktemp("chain")
    formulas = [f"{metal}{n}{other}" for n in (1, 2, 3) for metal in METALS for other in ("O", "S", "Cl", "F")]
    pull, mass = mean_of("X", formulas), mean_of("atomic_mass", formulas)
    kind = np.where(mass > np.median(mass), "heavy", "light")
    pd.DataFrame({"composition": formulas, "pull": pull, "kind": kind}).to_csv(folder / "labels.csv", index=False)
    text = CONFIG.format(output=json.dumps(str(folder / "out")), table=json.dumps(str(folder / "labels.csv")))
    file = folder / "all.toml"
    file.write_text(text)
    return file


def test_training_fine_tuning_and_study_share_a_file_and_a_folder(config: Path) -> None:
    output = config.parent / "out"
    assert continual(["--config", str(config)]) == 0
    assert continual(["--config", str(config), "--finetune-heads", "pull", "--epochs", "2"]) == 0
    tuned = output / "finetune" / "final_model.pt"
    assert design(["study", "--config", str(config), "--model", str(tuned)]) == 0
    assert (output / "training" / "final_model.pt").is_file()
    assert "pull" in json.loads((output / "finetune" / "finetune_summary.json").read_text())["heads"]
    scenario = output / "inverse_design" / "pulling"
    assert len(list(scenario.glob("seed_to_optimized__*.png"))) == 7
    found = json.loads((scenario / "results.json").read_text())
    assert len(found["paths"]) == 8
    assert "composition, random start" in (scenario / "SUMMARY.md").read_text()
