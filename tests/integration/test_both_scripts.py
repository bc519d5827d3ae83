"""The dispatcher and `crystrata-trainer` carry out the same run: equal weights, to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crystrata.cli import train, trainer
from crystrata.runs.directory import BEST

FLAGS = "--level smoke --properties formation_energy,band_gap --epochs 2 --max-samples 80 --preset small --source demo"


def test_both_scripts_train_the_same_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [*FLAGS.split(), "--device", "cpu", "--models-dir", str(tmp_path / "models")]
    flags += ["--data-dir", str(tmp_path / "data")]
    assert train.main([*flags, "--run-id", "flags"]) == 0
    capsys.readouterr()
    assert train.main([*flags, "--dry-run", "yaml"]) == 0
    (tmp_path / "run.yaml").write_text(capsys.readouterr().out)
    assert trainer.main(["fit", "--config", str(tmp_path / "run.yaml"), "--experiment_name", "yaml"]) == 0
    family = tmp_path / "models" / "multitask_std_e3nn"
    first, second = (torch.load(family / f"run_{name}" / BEST, weights_only=True) for name in ("flags", "yaml"))
    assert first["network"] == second["network"]
    assert first["state"].keys() == second["state"].keys()
    assert len(first["state"]) > 20
    assert [name for name, tensor in first["state"].items() if not torch.equal(tensor, second["state"][name])] == []
