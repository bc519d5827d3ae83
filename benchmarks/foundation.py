"""Compositions and crystals on official JARVIS tests: energy, gap, moduli, phonon densities of states.

    python benchmarks/foundation.py --data-file FILE --splits FILE --curves FILE [--only NAME ...] [--models-dir DIR]

`--splits` is a parquet table (benchmark, jid, split), `--curves` one of densities of states (jid, split, ph_dos). Every
crystal is a sample of its own, named by its id, so that the split is the official one to the crystal. It is described
by its formula (`composition`), read as a graph (`crystal`), or both. A run that is in the models folder already is
not trained again. Results are kept in results/foundation.json as soon as a training is over; the page is made from it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from crystrata.compositions.descriptors import descriptor_source
from crystrata.files import write_json, write_text
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import RESULTS
from crystrata.runs.find import EVALUATED_MODEL, SHIPPED
from crystrata.tasks import parse_tasks
from crystrata.workflows.run import run
from crystrata.workflows.sources import Inputs
from foundation_page import page
from foundation_phonons import compare
from phonon_dos import GRID

RESULT = Path(__file__).parent / "results" / "foundation.json"
PICTURE = RESULT.with_name("phonon_dos.png")
PHONONS = "ph_dos"
ENERGY_AND_GAP = ("formation_energy_peratom", "optb88vdw_bandgap")
MODULI = ("bulk_modulus_kv", "shear_modulus_gv")
DENSE = {"hidden_dims": [None, 512, 256, 256], "residual": True}
MLP = {**DENSE, "dropout": 0.2}
WIDE = {"kind": "joined", "parts": [{"kind": "kernel_mean"}, {"kind": "statistics"}]}
TRUNK = {"structure": "e3nn", "structure_settings": {"channels": 64, "layers": 3}, "modality_dropout": 0.0}
CURVE = {"kernels": 66, "non_negative": True}
NUMBER = {"error": "mae", "hidden": [128]}
COMMON = {
    "latent_stage": "none",
    "batch_size": 64,
    "lr": 2e-3,
    "weight_decay": 1e-2,
    "ema": 0.995,
    "device": "cpu",
}


@dataclass(frozen=True)
class Case:
    """One training.

    Attributes:
        labels: Columns that are learned together; they share one official split.
        reads: What it reads, in words.
        epochs: Passes over the training part.
        settings: Fields of the configuration that differ from those of all.
    """

    labels: tuple[str, ...]
    reads: str
    epochs: int
    settings: dict[str, Any] = field(default_factory=dict)


DESCRIBED = {"composition": "mlp", "composition_settings": DENSE, "descriptor": WIDE}
DROPPED = {**DESCRIBED, "composition_settings": MLP}
BOTH = {**DROPPED, **TRUNK}
STARTED = {"structure_start": str(SHIPPED / EVALUATED_MODEL)}
CASES = {
    "energy-composition": Case(ENERGY_AND_GAP, "composition", 14, DESCRIBED),
    "energy-both": Case(ENERGY_AND_GAP, "composition and crystal", 3, BOTH),
    "energy-both-started": Case(
        ENERGY_AND_GAP, f"composition and crystal, from {EVALUATED_MODEL}", 2, {**BOTH, **STARTED}
    ),
    "moduli-composition": Case(MODULI, "composition", 25, DESCRIBED),
    "moduli-both": Case(MODULI, "composition and crystal", 5, BOTH),
    "phonons-composition": Case((PHONONS,), "composition", 24, DROPPED),
    "phonons-crystal": Case((PHONONS,), "crystal", 10, TRUNK),
    "phonons-crystal-started": Case((PHONONS,), f"crystal, from {EVALUATED_MODEL}", 10, {**TRUNK, **STARTED}),
}


class ByFormula:
    """The descriptor of each crystal's formula, under the id of the crystal.

    Args:
        formulas: Formula by id.
        settings: Of the descriptor.
    """

    def __init__(self, formulas: pd.Series, settings: dict[str, Any]) -> None:
        self.formulas, self.source = formulas, descriptor_source(**settings)
        self.names, self.digest = self.source.names, self.source.digest

    def describe(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See `DescriptorSource.describe`."""
        return self.source.describe(self.formulas.loc[list(keys)].tolist())


def main() -> int:
    """Carry out the trainings that are asked for, and write the page after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--data-file", "--splits", "--curves"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--models-dir", default="models")
    parser.add_argument("--data-dir", default="data")
    flags = parser.parse_args()
    crystals = pd.read_parquet(flags.data_file).set_index("jid")
    formulas = crystals["formula"]
    for name in flags.only:
        case = CASES[name]
        table = labels_of(case, crystals, flags)
        kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        made, seconds = trained(name, case, table, formulas, flags)
        found = json.loads((made / RESULTS).read_text())
        kept[name] = {
            "reads": case.reads,
            "epochs": case.epochs,
            "cpu_seconds": kept.get(name, {}).get("cpu_seconds") if seconds is None else seconds,
            "parameters": found["parameters"],
            "tasks": {label: found["tasks"][label] for label in case.labels},
        }
        if case.labels == (PHONONS,):
            runs = {
                entry.reads: run_of(key, entry, flags) for key, entry in CASES.items() if entry.labels == (PHONONS,)
            }
            kept["phonons"] = compare(runs, table, formulas, flags.data_file, Path(flags.data_dir), PICTURE)
        else:
            kept["same formula"] = {**kept.get("same formula", {}), **of_same_formula(case, table, formulas)}
        write_json(RESULT, kept)
        write_text(RESULT.with_suffix(".md"), page(__doc__ or "", kept))
        print(name, kept[name], flush=True)
    return 0


def labels_of(case: Case, crystals: pd.DataFrame, flags: argparse.Namespace) -> pd.DataFrame:
    """Return a row for each crystal of the official split of a case: id, split, labels."""
    if case.labels == (PHONONS,):
        table = pd.read_parquet(flags.curves)
        table = table[table["jid"].isin(crystals.index)].assign(split=lambda rows: rows["split"].astype(str))
        return table.assign(t=[GRID] * len(table))
    splits = pd.read_parquet(flags.splits).astype(str).sort_values("split", key=lambda part: part != "test")
    parts = [splits[splits["benchmark"] == label].drop_duplicates("jid").set_index("jid")["split"].sort_index()
             for label in case.labels]  # two tested ids are published twice  # fmt: skip
    if not all(part.equals(parts[0]) for part in parts):
        raise SystemExit(f"{case.labels} do not share one split: they cannot be learned together")
    return crystals[list(case.labels)].join(parts[0], how="inner").rename_axis("jid").reset_index()


def run_of(name: str, case: Case, flags: argparse.Namespace) -> Path:
    """Return the directory of the run of a case, there or not."""
    return Path(flags.models_dir) / f"tasks_{case.settings.get('composition', 'e3nn')}" / f"run_{name}"


def trained(
    name: str, case: Case, table: pd.DataFrame, formulas: pd.Series, flags: argparse.Namespace
) -> tuple[Path, float | None]:
    """Return the run of a case and its CPU seconds; None where the run was there already."""
    there = run_of(name, case, flags)
    if (there / RESULTS).is_file():
        return there, None
    curve = {"kind": "curve", "t_column": "t", "head": CURVE}
    number = {"kind": "regression", "head": NUMBER}
    tasks = [
        {"name": label, "composition_column": "jid", "data_column": label, **(curve if label == PHONONS else number)}
        for label in case.labels
    ]
    where = {"data_file": flags.data_file, "data_dir": flags.data_dir, "models_dir": flags.models_dir}
    config = RunConfig(parse_tasks(tasks), **{**COMMON, **case.settings}, **where, epochs=case.epochs, run_id=name)
    inputs = Inputs(table, None if config.structure else ByFormula(formulas, config.descriptor))
    started = time.process_time()
    made = run(config, sys.argv, Console(), inputs=inputs)
    return made, time.process_time() - started


def of_same_formula(case: Case, table: pd.DataFrame, formulas: pd.Series) -> dict[str, dict[str, float]]:
    """Return how well a formula tells its tested crystals, where training crystals have it too, by label.

    Returns:
        Their number; `mae` of the median of the training crystals; `best`, that of the median of all crystals of the
        formula, the tested ones included, which no model of the formula can be expected to beat.
    """
    formula = pd.Series(formulas.loc[table["jid"]].to_numpy(), index=table.index)
    train, tested = table["split"] == "train", table["split"] == "test"
    tested &= formula.isin(formula[train])
    found = {}
    for label in case.labels:
        values, asked = table[label], formula[tested]
        errors = {
            name: (asked.map(known.groupby(formula[known.index]).median()) - values[tested]).abs().mean()
            for name, known in (("mae", values[train]), ("best", values))
        }
        found[label] = {"n": int(tested.sum()), **{name: float(error) for name, error in errors.items()}}
    return found


if __name__ == "__main__":
    raise SystemExit(main())
