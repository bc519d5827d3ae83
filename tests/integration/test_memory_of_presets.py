"""Peak memory of every preset on the heaviest micro-batch of an epoch over the complete JARVIS file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crystrata.presets import PRESETS

MOST = 10 * 2**30
"""Of a card of 12 GiB; measured on the CPU as the resident memory of the whole process, torch and data included."""

HEAVIEST_STEP = """
import resource, sys
import torch
from rich.console import Console
from crystrata.datasets.sampling import Step
from crystrata.networks.network import Network
from crystrata.jarvis_properties import GROUPS
from crystrata.runs.config import resolve_config
from crystrata.training.fit import network_config
from crystrata.workflows.prepare import prepare

algorithm, mode, data_file, data_dir = sys.argv[1:]
config = resolve_config(algorithm, mode, properties=GROUPS["all9"], data_file=data_file, data_dir=data_dir)
data = prepare(config, Console(quiet=True)).data
edges = data.dataset.graphs.edge_offsets[1:] - data.dataset.graphs.edge_offsets[:-1]
parts = [part for step in data.sampler for part in step.micro_batches()]
heaviest = max(parts, key=lambda rows: edges[rows].sum())
network = Network(network_config(config, data))
network.fit_scaling(data.dataset.training_targets(), fractions=data.dataset.fractions(data.split.train))
data.form = network.training_form
optimizer = torch.optim.AdamW(network.parameters(), fused=True)
(batch,) = data.micro_batches(Step(heaviest, len(heaviest)))
for _ in range(2):
    torch.stack(list(network.loss_sums(batch).values())).sum().backward()
    optimizer.step()
print(len(heaviest), int(edges[heaviest].sum()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the store that all presets share."""
    return tmp_path_factory.mktemp("data")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows does not tell the peak memory of a process in this way")
@pytest.mark.parametrize(("algorithm", "mode"), PRESETS)
def test_a_preset_fits_into_ten_gibibytes(
    algorithm: str, mode: str, jarvis_file: Path, data_dir: Path, root: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", HEAVIEST_STEP, algorithm, mode, str(jarvis_file), str(data_dir)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    crystals, edges, peak = map(int, done.stdout.split())
    print(f"{algorithm} {mode}: {crystals} crystals, {edges} edges, {peak / 2**30:.2f} GiB")
    assert peak < MOST
