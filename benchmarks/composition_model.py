"""Train the shipped model of compositions, with which `crystrata design` searches, and export it.

    python benchmarks/composition_model.py --data-file FILE [--epochs N] [--models-dir DIR] [--output DIR]

Labels are those of the lowest-energy crystal of each reduced formula; compositions are split 80/10/10.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from crystrata.datasets.catalogues import composition_table
from crystrata.runs.config import RunConfig
from crystrata.runs.find import DEFAULT_COMPOSITIONS
from crystrata.sources.jarvis import open_data_file
from crystrata.tasks import parse_tasks
from crystrata.workflows.export import export_model
from crystrata.workflows.run import run
from crystrata.workflows.sources import Inputs

NUMBERS = {
    "formation_energy": "formation_energy_peratom",
    "band_gap": "optb88vdw_bandgap",
    "band_gap_mbj": "mbj_bandgap",
    "bulk_modulus": "bulk_modulus_kv",
    "shear_modulus": "shear_modulus_gv",
    "volume_per_atom": "volume_per_atom",
}
HEAVY_TAILED = ("bulk_modulus", "shear_modulus")


def main() -> int:
    """Train and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-file", required=True)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--models-dir", default="models")
    parser.add_argument("--output", default="models/pretrained")
    flags = parser.parse_args()
    columns = [*NUMBERS.values(), "metal"]
    table = composition_table(open_data_file(Path(flags.data_file), cache_dir=Path("data")), columns)
    numbers = (
        {"name": name, "kind": "regression", "data_column": column, "transform": "asinh" if name in HEAVY_TAILED else
         "identity"} for name, column in NUMBERS.items()
    )  # fmt: skip
    metal = {"name": "metal", "kind": "classification", "data_column": "metal", "classes": ("metal", "other")}
    config = RunConfig(
        parse_tasks([*numbers, metal]),
        composition="mlp",
        composition_settings={"hidden_dims": [None, 512, 256, 128], "dropout": 0.1},
        latent_stage="tanh",
        autoencoder=True,
        epochs=flags.epochs,
        batch_size=128,
        lr=2e-3,
        weight_decay=0.02,
        patience=flags.epochs,
        models_dir=flags.models_dir,
        run_id=DEFAULT_COMPOSITIONS,
    )
    console = Console()
    trained = run(config, sys.argv, console, inputs=Inputs(table))
    console.print(f"exported: {export_model(trained, Path(flags.output), DEFAULT_COMPOSITIONS)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
