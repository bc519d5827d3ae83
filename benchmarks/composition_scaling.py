"""Validation loss against the fraction of labels on real data: formation energy and band gap from the composition.

    python benchmarks/composition_scaling.py --data-file FILE

Of every composition the crystal of the lowest formation energy counts. The formation energy loses labels, the band gap
does not. It writes results/scaling_law.md and results/scaling_law.png, by `examples/scaling_law.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
TASK, OTHER = "formation_energy", "band_gap"
COLUMNS = {TASK: "formation_energy_peratom", OTHER: "optb88vdw_bandgap"}
FRACTIONS = (1.0, 0.5, 0.2, 0.1, 0.05)
EPOCHS = 15

sys.path.append(str(ROOT / "examples"))

from scaling_law import Losses, figure_of, losses_of  # noqa: E402


def table_of_compositions(data_file: Path) -> pd.DataFrame:
    """Return one row per formula, that of the lowest formation energy: composition and the labels."""
    table = pd.read_parquet(data_file, columns=["formula", *COLUMNS.values()])
    table = table.sort_values(COLUMNS[TASK]).drop_duplicates("formula").sort_index()
    return table.rename(columns={"formula": "composition", **{column: name for name, column in COLUMNS.items()}})


def document(table: Path, models: Path) -> dict[str, object]:
    """Return the document of the run."""
    tasks = [{"name": name, "type": "regression", "data_column": name} for name in COLUMNS]
    return {
        "trainer": {"max_epochs": EPOCHS, "default_root_dir": str(models), "accelerator": "cpu"},
        "model": {
            "class_path": "CompositionModel",
            "init_args": {
                "task_configs": tasks,
                "encoder_config": {"type": "mlp", "hidden_dims": [None, 256, 128]},
                "shared_block_optimizer": {"lr": 2e-3},
            },
        },
        "data": {
            "class_path": "CompositionData",
            "init_args": {
                "attributes_source": str(table),
                "descriptor": {"kind": "statistics"},
                "batch_size": 256,
                "redraw_masks": False,
            },
        },
    }


def page(losses: Losses, compositions: int, seconds: float) -> str:
    """Return the page of results."""
    rows = [f"| {fraction:g} | {found[TASK]:.4f} | {found[OTHER]:.4f} |" for fraction, found in losses.items()]
    return "\n".join(
        [
            "# Loss against the fraction of labels",
            "",
            "    python benchmarks/composition_scaling.py --data-file FILE",
            "",
            f"{compositions:,} compositions of the 2021 release of JARVIS-DFT, of each the crystal of the lowest",
            "formation energy; an mlp on element statistics learns formation energy and band gap together. The",
            "formation energy keeps a fixed subset of its training labels, the band gap all of them.",
            f"{EPOCHS} epochs each, seed 42, {seconds:.0f} s of CPU time in all. Losses are squared errors of the",
            "standardised labels on the validation part.",
            "",
            "| fraction of labels | loss of formation energy | loss of band gap |",
            "|---|---|---|",
            *rows,
            "",
            f"The loss of the formation energy goes as the fraction to the power {_exponent(losses, TASK):.2f}. That",
            f"of the band gap, which keeps its labels, is not left untouched (power {_exponent(losses, OTHER):.2f}):",
            "both read one encoder, which learns less from fewer labels.",
            "",
            "![Validation loss against the fraction of labels](scaling_law.png)",
            "",
        ]
    )


def _exponent(losses: Losses, task: str) -> float:
    """Return the slope of the logarithm of a loss over that of the fraction."""
    fractions = np.log(list(losses))
    return float(np.polyfit(fractions, np.log([found[task] for found in losses.values()]), 1)[0])


def main() -> int:
    """Train, and write page and figure; return the exit code."""
    parser = argparse.ArgumentParser(description="Loss against the fraction of labels on JARVIS-DFT.")
    parser.add_argument("--data-file", type=Path, required=True, metavar="FILE", help="JARVIS-DFT as parquet")
    flags = parser.parse_args()
    table, start = table_of_compositions(flags.data_file), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        table.to_parquet(Path(folder) / "table.parquet")
        config = Path(folder) / "run.yaml"
        config.write_text(yaml.safe_dump(document(Path(folder) / "table.parquet", Path(folder) / "models")))
        losses = losses_of(config, TASK, FRACTIONS, [42])
    (RESULTS / "scaling_law.md").write_text(page(losses, len(table), time.process_time() - start), encoding="utf-8")
    figure_of(losses, TASK).savefig(RESULTS / "scaling_law.png", dpi=120)
    return 0


if __name__ == "__main__":
    sys.exit(main())
