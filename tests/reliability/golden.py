"""The golden run: 50 steps of training on demo crystals and 20 predictions, for e3nn and CGCNN, in float32 on the CPU.

    PYTHONPATH=src OMP_NUM_THREADS=1 python tests/reliability/golden.py

writes golden.json again. Do so only after a change that is meant to change numbers, and say in the commit why they did.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crystrata.cli.train import main
from crystrata.files import write_json
from crystrata.jarvis_properties import get_property
from crystrata.prediction.predict import predict_materials
from crystrata.prediction.trained_model import load_model
from crystrata.runs.directory import HISTORY
from crystrata.sources.demo import open_demo
from crystrata.structures.crystal import Crystal

FILE = Path(__file__).with_name("golden.json")
RUNS = {"e3nn": ("--level", "lite", "--algorithm", "e3nn"), "cgcnn": ("--level", "smoke", "--algorithm", "cgcnn")}
FLAGS = ("--all-properties", "--epochs", 10, "--max-samples", 112, "--batch-size", 16, "--lr", 1e-3)
"""Ten epochs of five steps."""

STEPS, PREDICTIONS = 50, 20


def golden_run(algorithm: str, folder: Path, crystals: Sequence[Crystal]) -> dict[str, Any]:
    """Train on the demo and predict some of `crystals`, the same; return the numbers and a digest of their bits.

    Per epoch the mean loss of each property over its steps and the validation score; predictions by property.
    """
    where = ("--source", "demo", "--data-dir", folder / "data", "--models-dir", folder / "models", "--device", "cpu")
    if code := main([*map(str, (*RUNS[algorithm], *FLAGS, *where))]):
        raise RuntimeError(f"the golden run ended with exit code {code}")
    (run,) = (folder / "models").glob("*/run_*")
    history = json.loads((run / HISTORY).read_text())
    if history[-1]["step"] != STEPS:
        raise RuntimeError(f"{history[-1]['step']} steps instead of {STEPS}")
    model = load_model(run, "cpu")
    chosen = crystals[:: len(crystals) // PREDICTIONS][:PREDICTIONS]
    table = predict_materials(model, list(chosen))
    values = {name: table[get_property(name).column].tolist() for name in model.properties}
    found = {
        "loss": {name: [record["train_loss"][name] for record in history] for name in history[0]["train_loss"]},
        "score": [record["val_score"] for record in history],
        "crystals": [crystal.id for crystal in chosen],
        "predictions": values,
    }
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    return {"digest": digest, **json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.7g}"))}


def drift(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, float]:
    """Return the largest difference between two golden runs, of each kind of number.

    Losses and scores are compared relative to their size, predictions relative to their spread over the crystals.
    """
    losses = [_relative(found["loss"][name], values, np.abs(values)) for name, values in wanted["loss"].items()]
    predictions = [
        _relative(found["predictions"][name], values, np.ptp(values)) for name, values in wanted["predictions"].items()
    ]
    score = _relative(found["score"], wanted["score"], np.abs(wanted["score"]))
    return {"loss": max(losses), "score": score, "predictions": max(predictions)}


def _relative(found: Sequence[float], wanted: Sequence[float], size: Any) -> float:
    return float((np.abs(np.subtract(found, wanted)) / size).max())


def this_machine() -> dict[str, str]:
    """Return what the bits of a result depend on."""
    cpu = torch.backends.cpu.get_cpu_capability()
    return {"machine": platform.machine(), "cpu": cpu, "torch": torch.__version__, "numpy": np.__version__}


if __name__ == "__main__":
    demo, runs = list(open_demo().crystals()), {}
    for algorithm in RUNS:
        with tempfile.TemporaryDirectory() as scratch:
            runs[algorithm] = golden_run(algorithm, Path(scratch), demo)
    write_json(FILE, {"made_on": this_machine(), "runs": runs})
