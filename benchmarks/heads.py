"""Ablation of the heads that know physics: validation MAE of each kind of head, three seeds, the same crystals.

    python benchmarks/heads.py --data-file FILE [--max-samples 3000] [--epochs 8]

Each property is trained alone, with the std encoder, once per kind of head and seed; kinds are compared seed by seed,
as split, order and weights follow from the seed. The table goes to benchmarks/results/heads.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from crystrata.files import write_text
from crystrata.jarvis_properties import get_property
from crystrata.reports.tables import markdown
from crystrata.runs.config import resolve_config
from crystrata.runs.directory import RESULTS
from crystrata.workflows.run import run

RESULT = Path(__file__).parent / "results" / "heads.md"
SEEDS = (0, 1, 2)


def main() -> int:
    """Train every kind of head of every property and write the table after each property."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-file", required=True)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--properties", default="dielectric,piezoelectric,band_gap")
    parser.add_argument("--max-samples", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=8)
    flags = parser.parse_args()
    rows = []
    for name in flags.properties.split(","):
        for kind in get_property(name).kinds:
            errors = [_validation_mae(name, kind, seed, flags) for seed in SEEDS]
            rows.append(_row(name, kind, errors))
            print(rows[-1], flush=True)
        _write(rows, flags)
    return 0


def _validation_mae(name: str, kind: str, seed: int, flags: argparse.Namespace) -> float:
    with tempfile.TemporaryDirectory() as models:
        config = resolve_config(
            "e3nn",
            "smoke",
            properties=[name],
            single_task=True,
            heads={name: kind},
            seed=seed,
            batch_size=32,
            lr=3e-3,
            epochs=flags.epochs,
            max_samples=flags.max_samples,
            data_file=flags.data_file,
            data_dir=flags.data_dir,
            models_dir=models,
        )
        found = run(config, sys.argv, Console(quiet=True))
        return json.loads((found / RESULTS).read_text())["tasks"][name]["val"]["mae"]


def _row(name: str, kind: str, errors: list[float]) -> dict[str, object]:
    spread = float(np.std(errors, ddof=1) / np.sqrt(len(errors)))
    each = {f"seed {seed}": error for seed, error in zip(SEEDS, errors, strict=True)}
    return {"property": get_property(name).column, "head": kind, **each, "mean": float(np.mean(errors)), "s.e.": spread}


def _write(rows: list[dict[str, object]], flags: argparse.Namespace) -> None:
    head = (
        "# Heads that know physics against scalar heads\n\n"
        f"Validation MAE; single-task, e3nn std, {flags.max_samples} labelled crystals (80/10/10 by formula), "
        f"{flags.epochs} epochs, batch 32, rate 3e-3. Made by `python benchmarks/heads.py --data-file FILE "
        f"--max-samples {flags.max_samples} --epochs {flags.epochs} --properties {flags.properties}`.\n\n"
    )
    write_text(RESULT, head + markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    sys.exit(main())
