"""The benchmark of compositions and crystals: official parts, what one formula leaves open, and the page."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foundation import CASES, ENERGY_AND_GAP, MODULI, labels_of, of_same_formula
from foundation_page import page


@pytest.fixture
def crystals() -> pd.DataFrame:
    """Labels of six crystals by id."""
    values = [10.0, 30.0, 50.0, 70.0, 90.0, np.nan]
    labels = pd.DataFrame(dict.fromkeys(MODULI, values), index=pd.Index(list("abcdef"), name="jid"))
    return labels.assign(formula=["X", "X", "X", "Y", "X", "X"])


@pytest.fixture
def flags(tmp_path: Path) -> Namespace:
    """A table of splits in which a tested id is published twice, and `f` is in no part."""
    parts = {"a": "train", "b": "train", "c": "test", "d": "test", "e": "val"}
    rows = [(label, jid, part) for label in MODULI for jid, part in [*parts.items(), ("c", "train")]]
    pd.DataFrame(rows, columns=["benchmark", "jid", "split"]).to_parquet(tmp_path / "splits.parquet")
    return Namespace(splits=tmp_path / "splits.parquet")


def test_the_split_is_the_official_one_to_the_crystal(crystals: pd.DataFrame, flags: Namespace) -> None:
    table = labels_of(CASES["moduli-both"], crystals, flags)
    assert dict(zip(table["jid"], table["split"], strict=True)) == (
        {"a": "train", "b": "train", "c": "test", "d": "test", "e": "val"}
    )
    np.testing.assert_array_equal(table["bulk_modulus_kv"], [10, 30, 50, 70, 90])


def test_labels_of_different_splits_are_not_learned_together(crystals: pd.DataFrame, flags: Namespace) -> None:
    splits = pd.read_parquet(flags.splits)
    splits.loc[0, "split"] = "test"
    splits.to_parquet(flags.splits)
    with pytest.raises(SystemExit, match="do not share one split"):
        labels_of(CASES["moduli-both"], crystals, flags)


def test_what_the_same_formula_tells(crystals: pd.DataFrame, flags: Namespace) -> None:
    table = labels_of(CASES["moduli-both"], crystals, flags)
    found = of_same_formula(CASES["moduli-both"], table, crystals["formula"])
    assert found["bulk_modulus_kv"] == {"n": 1, "mae": 30.0, "best": 10.0}  # c is 50, a and b have the
    # median 20, a, b, c and e the median 40; nobody knows Y


def test_the_page_tells_each_result() -> None:
    figures = {"n": 7, "mae": 0.125, "mad": 0.5}
    case = {"reads": "composition", "epochs": 3, "cpu_seconds": 12.4, "parameters": 10}
    results = {
        "phonons-composition": {**case, "cpu_seconds": 98.7, "tasks": {"ph_dos": {"val": figures, "test": figures}}},
        "energy-composition": {**case, "tasks": {label: {"val": figures, "test": figures} for label in ENERGY_AND_GAP}},
        "same formula": {"formation_energy_peratom": {"n": 5, "mae": 0.0625, "best": 0.03125}},
        "phonons": {"network: composition": {"mae": 0.0521, "wasserstein": 31.5, "heat_capacity": 0.4321}},
    }
    text = page("Title.\n\nAbout.", results)
    lines = text.splitlines()
    assert lines[0] == "# Title."
    (energy,) = [line for line in lines if line.startswith("| formation_energy_peratom [eV/atom]")]
    assert all(cell in energy for cell in ("composition", "0.125", "0.223", "0.096", "0.073", "12"))
    assert "| formation_energy_peratom | 5 | 0.0625 | 0.03125 |" in lines
    (spectra,) = [line for line in lines if line.startswith("| network: composition")]
    assert all(cell in spectra for cell in ("0.0521", "31.5", "0.4321", "99"))
    tables = [at for at, line in enumerate(lines) if line.startswith("| ---")]
    assert len(tables) == 3
    assert all(lines[at - 1].startswith("|") and lines[at + 1].startswith("|") for at in tables)
