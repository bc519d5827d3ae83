"""The main trunk against the plain e3nn trunk: validation MAE of the formation energy against CPU seconds.

    python benchmarks/trunks.py --data-file FILE --encoder plain_e3nn [--rates 1.5e-3,3e-3,6e-3] [--seeds 0,1,2]
    python benchmarks/trunks.py --data-file FILE --encoder cgcnn --set channels=64 --set layers=3

All encoders see the same 10,000 crystals of at most 20 atoms (8,000 to train, 1,000 to validate, 1,000 to test), the
same graphs, loop, head, batch size and number of epochs, and the same small search over learning rates: each rate once
with the first seed, then the best one with the other seeds. Every training is kept in benchmarks/results/trunks.json as
soon as it is over, so that the search can be stopped and continued; trunks.md is made from it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from crystrata.datasets.data_module import BatchDataModule
from crystrata.datasets.splits import Split
from crystrata.files import lock, write_text
from crystrata.networks.network import count_parameters
from crystrata.networks.training_record import TrainingRecord
from crystrata.presets import ENCODERS, TRACKS
from crystrata.reports.tables import markdown
from crystrata.runs.config import RunConfig, resolve_config
from crystrata.runs.directory import HISTORY
from crystrata.training.fit import build, fit
from crystrata.training.stopping import StopRequest
from crystrata.workflows.prepare import prepare

TRIALS = Path(__file__).parent / "results" / "trunks.json"
CRYSTALS, HELD_OUT, MOST_ATOMS, BATCH = 10_000, 1_000, 20, 32
PROPERTY = "formation_energy"

Trial = dict[str, Any]


def main() -> int:
    """Search the rates of one encoder, then repeat the best one with other seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-file", required=True)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--encoder", default="e3nn")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="setting of the encoder")
    parser.add_argument("--rates", default="1.5e-3,3e-3,6e-3")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=20)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    rates, seeds = [float(rate) for rate in flags.rates.split(",")], [int(seed) for seed in flags.seeds.split(",")]
    searched = [_trial(flags, rate, seeds[0]) for rate in rates]
    best = min(searched, key=lambda trial: trial["val_mae"][-1])["rate"]
    for seed in seeds[1:]:
        _trial(flags, best, seed)
    return 0


def _trial(flags: argparse.Namespace, rate: float, seed: int) -> Trial:
    """Return a training that is on record, or carry it out and put it there."""
    key = {"encoder": " ".join([flags.encoder, *flags.set]), "rate": rate, "seed": seed, "epochs": flags.epochs}
    for trial in _on_record():
        if all(trial[name] == value for name, value in key.items()):
            return trial
    trial = {**key, **_train(flags, rate, seed)}
    with lock(TRIALS.with_suffix(".lock")):
        trials = [*_on_record(), trial]
        write_text(TRIALS, "[\n" + ",\n".join(json.dumps(each) for each in trials) + "\n]\n")
        write_text(TRIALS.with_suffix(".md"), _page(trials))
    print({name: trial[name] for name in (*key, "cpu_seconds")}, trial["val_mae"][-1], flush=True)
    return trial


def _on_record() -> list[Trial]:
    return json.loads(TRIALS.read_text()) if TRIALS.is_file() else []


def _train(flags: argparse.Namespace, rate: float, seed: int) -> Trial:
    settings = dict(item.split("=") for item in flags.set)
    with tempfile.TemporaryDirectory() as models:
        config = trial_config(
            flags.encoder, seed=seed, lr=rate, epochs=flags.epochs, patience=flags.epochs, data_file=flags.data_file,
            data_dir=flags.data_dir, models_dir=models,
        )  # fmt: skip
        config.structure_settings.update({name: json.loads(value) for name, value in settings.items()})
        data = fixed_subset(config)
        console, started = Console(quiet=True), time.process_time()
        module, record = build(config, data, console), TrainingRecord.of([], [], {})
        with StopRequest(console) as stop:
            fit(module, config, data, Path(models), facts={}, record=record, console=console, stop=stop, resume=False)
        history = json.loads((Path(models) / HISTORY).read_text())
    return {
        "parameters": count_parameters(module.network),
        "cpu_seconds": round(time.process_time() - started, 1),
        "val_mae": [round(epoch["val_mae"][PROPERTY], 5) for epoch in history],
    }


def trial_config(encoder: str, **overrides: Any) -> RunConfig:
    """Return the run of an encoder on the formation energy, with the schedule and clipping of the main trunk."""
    return resolve_config(
        ENCODERS[encoder].algorithm, "std", properties=[PROPERTY], single_task=True, structure=encoder,
        batch_size=BATCH, schedule=TRACKS["e3nn"].schedule, clip=TRACKS["e3nn"].clip, device="cpu", **overrides,
    )  # fmt: skip


def fixed_subset(config: RunConfig) -> BatchDataModule:
    """Return the data of a run cut down to the subset, which depends on nothing but the data file."""
    dataset = prepare(config, Console(quiet=True)).dataset
    rows = np.flatnonzero((dataset.atom_counts <= MOST_ATOMS) & dataset.known[PROPERTY])
    val, test, train_rows = np.split(np.random.default_rng(0).permutation(rows)[:CRYSTALS], [HELD_OUT, 2 * HELD_OUT])
    split = Split(train=np.sort(train_rows), val=np.sort(val), test=np.sort(test), protocol="subset", seed=0)
    dataset.train_on(split.train)
    return BatchDataModule(dataset, split, batch_size=BATCH, seed=config.seed)


def _page(trials: list[Trial]) -> str:
    table = pd.DataFrame(
        {
            "encoder": trial["encoder"],
            "parameters": trial["parameters"],
            "epochs": trial["epochs"],
            "rate": trial["rate"],
            "seed": trial["seed"],
            "validation MAE": trial["val_mae"][-1],
            "after half the epochs": trial["val_mae"][trial["epochs"] // 2 - 1],
            "CPU seconds": trial["cpu_seconds"],
        }
        for trial in sorted(trials, key=lambda trial: (trial["encoder"], trial["epochs"], trial["rate"], trial["seed"]))
    )
    head = (
        "# The main trunk against the plain e3nn trunk\n\n"
        "Formation energy [eV/atom]; 8,000 training and 1,000 validation crystals of at most 20 atoms, batch 32. One\n"
        "thread; CPU seconds include the validation of each epoch. Made by `python benchmarks/trunks.py --data-file\n"
        "FILE --encoder NAME`, once per encoder.\n\n"
    )
    return head + markdown(table)


if __name__ == "__main__":
    sys.exit(main())
