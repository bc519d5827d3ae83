"""Composition-only models on official JARVIS tests: formation energy, gap, bulk modulus, phonon density of states.

    python benchmarks/foundation.py --data-file FILE --splits FILE [--curves FILE] [--only NAME] [--epochs N]

`--splits` is a parquet table (benchmark, jid, split), `--curves` one of densities of states (jid, split, ph_dos). Every
crystal is a sample of its own, named by its id and described by its formula alone, so that the split is the official
one to the crystal. The curves are compared with those of the training compositions nearest in descriptor. Each result
is kept in results/foundation.json as soon as it is over; the page results/foundation.md is made from it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from crystrata.compositions.descriptors import KernelMean
from crystrata.files import write_json, write_text
from crystrata.reports.tables import markdown
from crystrata.runs.directory import RESULTS
from crystrata.runs.task_config import TaskRunConfig
from crystrata.workflows.task_run import run_tasks

RESULT = Path(__file__).parent / "results" / "foundation.json"
PUBLISHED = {"formation_energy_peratom": 0.223, "optb88vdw_bandgap": 0.406, "bulk_modulus_kv": 15.6}
"""Task -> MAE of `cfid_chem`, the composition-only entry of the JARVIS leaderboard."""
UNITS = {"formation_energy_peratom": "eV/atom", "optb88vdw_bandgap": "eV", "bulk_modulus_kv": "GPa", "ph_dos": "states"}
GRID = np.linspace(-300, 1000, 66)  # of the densities of states [1/cm]


class ByFormula:
    """The kernel mean of each crystal's formula, under the id of the crystal.

    Args:
        formulas: Formula by id.
    """

    def __init__(self, formulas: pd.Series) -> None:
        self.formulas, self.source = formulas, KernelMean()
        self.names, self.digest = self.source.names, self.source.digest

    def describe(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See `DescriptorSource.describe`."""
        return self.source.describe(self.formulas.loc[list(keys)].tolist())


def main() -> int:
    """Train a model of each property, and of the curves, and write the page after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-file", required=True)
    parser.add_argument("--splits", required=True)
    parser.add_argument("--curves")
    parser.add_argument("--only")
    parser.add_argument("--epochs", type=int, default=30)
    flags = parser.parse_args()
    crystals = pd.read_parquet(flags.data_file).set_index("jid")
    splits = pd.read_parquet(flags.splits)
    source = ByFormula(crystals["formula"])
    names = [*PUBLISHED, *(["ph_dos"] if flags.curves else [])]
    for name in names if flags.only is None else [flags.only]:
        if name == "ph_dos":
            table, task = _curves(flags.curves, crystals.index)
        else:
            part = splits[splits["benchmark"] == name].astype(str).sort_values("split", key=lambda part: part != "test")
            part = part.drop_duplicates("jid").set_index("jid")["split"]  # two tested ids are published twice
            table = crystals[[name]].join(part, how="inner").reset_index()
            task = {"kind": "regression", "data_column": name, "head": {"error": "huber", "hidden": [128]}}
        result = _train({"name": name, "composition_column": "jid", **task}, table, source, flags.epochs)
        if name == "ph_dos":
            result["nearest"] = _nearest(table, source)
        kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        write_json(RESULT, {**kept, name: result})
        print(name, result, flush=True)
        _write_page({**kept, name: result})
    return 0


def _curves(file: str, known: pd.Index) -> tuple[pd.DataFrame, dict[str, Any]]:
    table = pd.read_parquet(file)
    table = table[table["jid"].isin(known)].assign(split=lambda rows: rows["split"].astype(str))
    table["t"] = [GRID] * len(table)
    return table, {"kind": "curve", "data_column": "ph_dos", "t_column": "t", "head": {"kernels": 48}}


def _train(task: dict[str, Any], table: pd.DataFrame, source: ByFormula, epochs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as models:
        config = TaskRunConfig(
            (task,),
            encoder_settings={"hidden_dims": [None, 512, 256, 256], "residual": True},
            latent_stage="tanh",
            epochs=epochs,
            batch_size=128,
            lr=1e-3,
            weight_decay=1e-2,
            ema=0.995,
            models_dir=models,
            device="cpu",
        )
        started = time.process_time()
        run = run_tasks(config, sys.argv, Console(), table=table, source=source)
        results = json.loads((run / RESULTS).read_text())
    found = results["tasks"][task["name"]]
    seconds = time.process_time() - started
    return {"epochs": epochs, "cpu_seconds": seconds, "parameters": results["parameters"], **found}


def _nearest(table: pd.DataFrame, source: ByFormula) -> float:
    """Return the MAE of telling, for each test crystal, the mean curve of the nearest training composition."""
    train, test = (table[table["split"] == part] for part in ("train", "test"))
    formulas = source.formulas.loc[train["jid"]].to_numpy()
    curves = pd.DataFrame(np.stack(train["ph_dos"]), index=formulas).groupby(level=0).mean()
    known, _ = source.source.describe(curves.index.tolist())
    asked, _ = source.describe(test["jid"].tolist())
    squares = (known**2).sum(1)
    nearest = np.concatenate([(squares - 2 * part @ known.T).argmin(1) for part in np.array_split(asked, 8)])
    return float(np.abs(curves.to_numpy()[nearest] - np.stack(test["ph_dos"])).mean())


def _write_page(results: dict[str, dict[str, Any]]) -> None:
    rows = []
    for name, found in results.items():
        other = (
            f"{PUBLISHED[name]:g} (cfid_chem)" if name in PUBLISHED else f"{found['nearest']:.4g} (nearest composition)"
        )
        test = found["test"]
        rows.append(
            {
                "task": f"{name} [{UNITS[name]}]",
                "test labels": test["n"],
                "MAE": test["mae"],
                "to compare with": other,
                "MAD": test["mad"],
                "R2": test["r2"],
                "epochs": found["epochs"],
                "CPU seconds": round(found["cpu_seconds"]),
            }
        )
    text = (__doc__ or "").split("\n", 1)
    write_text(RESULT.with_suffix(".md"), f"# {text[0]}\n\n{text[1].strip()}\n\n{markdown(pd.DataFrame(rows))}")


if __name__ == "__main__":
    raise SystemExit(main())
