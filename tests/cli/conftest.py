"""What the tests of commands share: calling a script as a person does, and runs with untrained weights."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = "scripts/phase2_multitask"


@pytest.fixture
def script(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a script of the suite with flags, in this process; returns its exit code."""

    def run(name: str, *flags: object) -> int:
        file = root / SCRIPTS / name
        monkeypatch.setattr(sys, "argv", [str(file), *map(str, flags)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(file), run_name="__main__")
        return int(ended.value.code or 0)

    return run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Makes and registers a run as training leaves it, with small random weights, under `tmp_path / models`."""

    def make(
        name: str = "run_a", *, algorithm: str = "cgcnn", mode: str = "std", demo: bool = False, **overrides: Any
    ) -> Path:
        import numpy as np
        import torch

        from crystrata.elements import MAX_ATOMIC_NUMBER
        from crystrata.files import write_json
        from crystrata.jarvis_properties import get_property
        from crystrata.networks.config import NetworkConfig
        from crystrata.networks.network import Network
        from crystrata.networks.training_record import TrainingRecord
        from crystrata.networks.weights import pack_network
        from crystrata.runs.config import resolve_config
        from crystrata.runs.directory import BEST, CONFIG, MANIFEST, RESULTS
        from crystrata.runs.manifest import end_manifest, start_manifest
        from crystrata.runs.registry import register_run
        from crystrata.training.checkpoints import write_checkpoint

        properties = overrides.pop("properties", ["formation_energy", "band_gap"])
        config = resolve_config(algorithm, mode, properties=properties, models_dir=tmp_path / "models", **overrides)
        torch.manual_seed(len(name))
        settings = {"channels": 8, "layers": 1}
        network = Network(NetworkConfig(config.trained, algorithm, settings, config.graph))
        source = {"name": "demo" if demo else "dft_3d_2021", "demo": demo, "digest": "d" * 64}
        empty = {"counts": torch.zeros(0, MAX_ATOMIC_NUMBER, dtype=torch.int16), "energies": torch.zeros(0)}
        hulls = {name: empty for name in config.properties if get_property(name).derived_from}
        facts = {"properties": list(config.properties), "source": source, "best_epoch": 1, "val_score": 0.5}
        facts |= {"hulls": hulls}
        record = TrainingRecord.of([], [], {task.name: np.zeros(0, dtype=bool) for task in config.trained})
        run = config.family_dir / name
        run.mkdir(parents=True)
        write_checkpoint(run / BEST, pack_network(network, network.state_dict(), facts, record))
        start_manifest(run, config, ["made by a test"])
        write_json(run / RESULTS, {"val_score": 0.5})
        end_manifest(run, "completed", source=source)
        (run / CONFIG).touch()
        register_run(run, config)
        assert (run / MANIFEST).is_file()
        return run

    return make
