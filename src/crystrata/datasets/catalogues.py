"""Catalogues of tasks over the JARVIS table by composition, `demo` and `full`, and the table of their labels.

Of polymorphs the one of lowest formation energy stands for its reduced formula.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crystrata.datasets.generated_labels import GENERATED, TEMPERATURES, feature, generated_labels
from crystrata.datasets.random_order import hash_position
from crystrata.datasets.table_files import read_tables
from crystrata.errors import DataError, unknown_name
from crystrata.sources.table import CrystalTable

CATALOGUES = ("demo", "full")
PHONON_DOS = {"name": "phonon_dos", "kind": "curve", "data_column": "ph_dos", "t_column": "wavenumber"}
"""The task that joins a catalogue where a file of phonon densities of states is given."""

_FILE = Path(__file__).with_name("catalogues.csv")
_ENERGY, _GAP = "formation_energy_peratom", "optb88vdw_bandgap"
_METAL_BELOW = 0.01  # [eV]
_SYSTEM_ENDS = (2, 15, 74, 142, 167, 194)  # last space group of each crystal system but the cubic
_SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")
_WAVENUMBERS = (-300.0, 1000.0)  # [1/cm] first and last bin of a JARVIS phonon density of states
_GRAM_PER_CM3 = 1.66053907  # of u / A^3


def catalogue_tasks(name: str, *, curves: bool = False) -> list[dict[str, Any]]:
    """Return the tasks of a catalogue as plain values, in their order.

    Args:
        name: `demo`, 11 tasks, or `full`, these and 13 more.
        curves: Whether phonon densities of states are there, so that the task `phonon_dos` comes first.

    Raises:
        UsageError: No catalogue has that name.
    """
    if name not in CATALOGUES:
        raise unknown_name("catalogue", name, CATALOGUES)
    rows = pd.read_csv(_FILE, keep_default_na=False)
    chosen = rows[rows["catalogue"].isin(CATALOGUES[: CATALOGUES.index(name) + 1])]
    return [*([dict(PHONON_DOS)] if curves else []), *(_task(row) for row in chosen.to_dict("records"))]


def _task(row: dict[str, Any]) -> dict[str, Any]:
    task = {"name": row["name"], "kind": row["kind"], "data_column": row["label"], "transform": row["transform"]}
    if row["t"]:
        task["t_column"] = row["t"]
    if row["classes"]:
        task["classes"] = row["classes"].split()
    return task


def composition_table(
    table: CrystalTable, columns: list[str], *, curves_file: str | None = None, most: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """Return one row a composition with the labels that some tasks read.

    Args:
        table: Crystals and their JARVIS columns.
        columns: Label columns: of the table, derived from the crystals, or generated.
        curves_file: Table of phonon densities of states by jid (`jid`, `ph_dos`), or None.
        most: Compositions to keep, chosen by a hash so that fewer are part of more; None keeps all.
        seed: Of that choice.

    Raises:
        DataError: A column is in none of these, or the curves cannot be read.
    """
    labels = _with_derived(table)
    if _ENERGY not in labels:
        raise DataError(f"{table.name} has no column {_ENERGY!r}, by which one of several polymorphs is chosen")
    if curves_file is not None:
        labels = labels.join(_curves(curves_file))
    labels = labels.sort_values(_ENERGY, kind="stable").drop_duplicates("formula").sort_values("formula")
    if most is not None and most < len(labels):
        place = np.array([hash_position(seed, formula) for formula in labels["formula"]])
        labels = labels.iloc[np.sort(np.argsort(place)[:most])]
    found = pd.DataFrame({"composition": labels["formula"].to_numpy()})
    for column in dict.fromkeys(columns):
        found[column] = _column(column, labels, table.name)
    return found


def _column(name: str, labels: pd.DataFrame, source: str) -> Any:
    if name in labels:
        return labels[name].to_numpy()
    if name in GENERATED:
        return list(generated_labels(name, labels["formula"].tolist()))
    if name == "temperature":
        return [TEMPERATURES] * len(labels)
    raise unknown_name(f"label column of {source}", name, [*labels.columns, *GENERATED])


def _with_derived(table: CrystalTable) -> pd.DataFrame:
    """Return the labels of a table with columns that follow from them and from the crystals."""
    labels = table.labels.copy()
    mass = feature("atomic_mass")
    shape = [(crystal.volume_per_atom, mass[crystal.numbers - 1].mean(), len(crystal)) for crystal in table.crystals()]
    volume, mean_mass, atoms = np.array(shape, dtype=float).T
    labels["volume_per_atom"], labels["atoms_in_cell"] = volume, atoms
    labels["density"] = _GRAM_PER_CM3 * mean_mass / volume
    if _GAP in labels:
        gap = labels[_GAP]
        labels["metal"] = (gap < _METAL_BELOW).map({True: "metal", False: "other"}).where(gap.notna())
        if "mbj_bandgap" in labels:
            labels["gap_correction"] = labels["mbj_bandgap"] - gap
    if "spacegroup" in labels:
        number = labels["spacegroup"].to_numpy()
        system = np.array(_SYSTEMS, dtype=object)[np.searchsorted(_SYSTEM_ENDS, number)]
        labels["crystal_system"] = pd.Series(system, index=labels.index).where((number >= 1) & (number <= 230))
    return labels


def _curves(file: str) -> pd.DataFrame:
    rows = read_tables([file], "jid")
    if "ph_dos" not in rows:
        raise DataError(f"{file} has no column 'ph_dos' of phonon densities of states")
    rows = rows[~rows.index.duplicated()]
    bins = rows["ph_dos"].map(len)
    grid = [np.linspace(*_WAVENUMBERS, count) for count in bins]
    return pd.DataFrame({"ph_dos": rows["ph_dos"], "wavenumber": pd.Series(grid, index=rows.index)})
