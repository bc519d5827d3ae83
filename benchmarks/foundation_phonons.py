"""Densities of states of the networks beside those of the nearest training compositions and crystals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from crystrata.compositions.descriptors import KernelMean
from crystrata.graphs.store import open_store
from crystrata.networks.ensemble import Ensemble
from crystrata.prediction.trained_model import load_model
from crystrata.runs.directory import TASK_PREDICTIONS
from crystrata.runs.find import EVALUATED_MODEL, SHIPPED
from crystrata.sources import DEFAULT_RELEASE
from crystrata.sources.opening import open_source
from phonon_dos import curves_of, encoded, figures, mean_of_nearest, save_picture

NEIGHBOURS = (1, 3, 5)
SHOWN = (0.02, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 0.98)  # of the tested crystals, by the error of the last network


def compare(
    runs: Mapping[str, Path], table: pd.DataFrame, formulas: pd.Series, data_file: str, data_dir: Path, picture: Path
) -> dict[str, Any]:
    """Return the errors on the test part by what told the curves; draw some of them.

    Args:
        runs: What a network reads -> its run, there or not.
        table: jid, split, ph_dos.
        formulas: Formula by id.
        data_file: Of the crystals.
        data_dir: Folder of stores.
        picture: Where the picture goes.
    """
    curves = {part: np.stack(rows["ph_dos"].tolist()).astype(np.float64) for part, rows in table.groupby("split")}
    ids = {part: rows["jid"].tolist() for part, rows in table.groupby("split")}
    found = {
        "mean of all": figures(np.broadcast_to(curves["train"].mean(axis=0), curves["test"].shape), curves["test"])
    }
    told: dict[str, np.ndarray] = {}
    for what, latents in (
        ("composition", _described(table, formulas)),
        ("crystal", _seen(table, data_file, data_dir)),
    ):
        known, asked = (latents[(table["split"] == part).to_numpy()] for part in ("train", "test"))
        for k in NEIGHBOURS:
            name = f"nearest {what}" if k == 1 else f"{k} nearest: {what}"
            told[name] = mean_of_nearest(asked, known, curves["train"], k)
    for reads, run in runs.items():
        if (file := run / TASK_PREDICTIONS / "ph_dos.parquet").is_file():
            told[f"network: {reads}"] = curves_of(pd.read_parquet(file), ids["test"])
    found |= {name: figures(predicted, curves["test"]) for name, predicted in told.items()}
    names = [name for name in told if name.startswith("network")]
    if len(names) > 1:
        _draw(curves["test"], told, names, [f"{formulas[jid]}, {jid}" for jid in ids["test"]], picture)
    return found


def _described(table: pd.DataFrame, formulas: pd.Series) -> np.ndarray:
    return KernelMean().describe(formulas.loc[table["jid"]].tolist())[0]


def _seen(table: pd.DataFrame, data_file: str, data_dir: Path) -> np.ndarray:
    """Return the latents of the evaluated model's encoder of the formation energy, which finds the best neighbours."""
    network = load_model(SHIPPED / EVALUATED_MODEL, "cpu").network
    members = network.members if isinstance(network, Ensemble) else [network]
    member = next(member for member in members if member.task_names == ("formation_energy",))
    crystals = open_source("auto", DEFAULT_RELEASE, data_file, data_dir, Console())
    store = open_store(crystals, member.graph, data_dir / "stores")
    row_of = {jid: row for row, jid in enumerate(crystals.labels.index[np.asarray(store.arrays.source_row)])}
    return encoded(member, store.arrays, np.array([row_of[jid] for jid in table["jid"]]))


def _draw(true: np.ndarray, told: Mapping[str, np.ndarray], names: list[str], titles: list[str], path: Path) -> None:
    """Draw crystals at equal ranks of the error of the last network, from good to bad."""
    order = np.abs(told[names[-1]] - true).mean(axis=1).argsort()
    rows = order[[round(share * (len(order) - 1)) for share in SHOWN]]
    chosen = {"computed": true, **{name: told[name] for name in (names[0], names[-1], "nearest crystal")}}
    save_picture({name: curves[rows] for name, curves in chosen.items()}, [titles[row] for row in rows], path)
