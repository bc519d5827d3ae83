"""The textbook crystals of reality.py: the table of measured values, and each row as a crystal. n rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crystrata.sources.demo.prototypes import PROTOTYPES
from crystrata.structures.crystal import Crystal

FOLDER = Path(__file__).parent / "reality"
TABLE, SOURCES = FOLDER / "crystals.csv", FOLDER / "sources.md"

MEASURED = {
    "band_gap": "gap",
    "band_gap_mbj": "gap",
    "bulk_modulus": "bulk_modulus",
    "dielectric": "dielectric",
}
"""Predicted property -> column of its measured value."""

SOURCE_OF = {
    "a": "structure_source",
    "density": "density_source",
    "gap": "gap_source",
    "bulk_modulus": "bulk_modulus_source",
    "dielectric": "dielectric_source",
}
"""Column of numbers -> column of their source keys."""

_Sites = tuple[tuple[str, tuple[float, float, float]], ...]
_WITH_PARAMETER: dict[str, Callable[[float], _Sites]] = {
    "wurtzite": lambda u: (("A", (1 / 3, 2 / 3, 0.0)), ("B", (1 / 3, 2 / 3, u))),
    "rutile": lambda u: (("A", (0.0, 0.0, 0.0)), ("B", (u, u, 0.0))),
    "molybdenite": lambda u: (("A", (1 / 3, 2 / 3, 0.25)), ("B", (1 / 3, 2 / 3, u))),
}
"""Prototype -> its sites by the column `u`; the sites of the others are those of `PROTOTYPES`."""


def read_table(path: Path = TABLE) -> pd.DataFrame:
    """Return the measured values, one row per crystal: lengths [A], density [g/cm^3], gap [eV], bulk modulus [GPa]."""
    return pd.read_csv(path)


def read_sources(path: Path = SOURCES) -> dict[str, str]:
    """Return what each source key stands for."""
    rows = [re.fullmatch(r"\| (\w+) \| (.+) \|", line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row[1]: row[2] for row in rows if row and row[1] != "key"}


def crystal_of(row: Any) -> Crystal:
    """Return the primitive cell of a row (`DataFrame.itertuples`) at its measured lengths."""
    from ase.spacegroup import crystal

    prototype = PROTOTYPES[row.prototype]
    symbols = dict(zip("ABCD", re.findall("[A-Z][a-z]?", row.formula), strict=False))
    sites = prototype.sites if pd.isna(row.u) else _WITH_PARAMETER[row.prototype](row.u)
    cell: Any = crystal(
        [symbols[role] for role, _ in sites],
        [position for _, position in sites],
        spacegroup=prototype.spacegroup,
        setting=prototype.setting,
        cellpar=[row.a, row.a, row.a if pd.isna(row.c) else row.c, 90, 90, 120 if prototype.hexagonal else 90],
        primitive_cell=True,
    )
    return Crystal.create(row.name, np.array(cell.cell), cell.numbers, cell.get_scaled_positions())


def spacegroups(table: pd.DataFrame) -> list[int]:
    """Return the space group number of each row."""
    return [PROTOTYPES[name].spacegroup for name in table["prototype"]]
