"""Physical properties of the elements, H to Lr: the table that composition descriptors are made of.

    python -m crystrata.compositions.element_features

makes `element_features.csv` from the element data of pymatgen. Z = MAX_ATOMIC_NUMBER elements, F features.
"""

from __future__ import annotations

import csv
import math
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from crystrata.elements import MAX_ATOMIC_NUMBER, SYMBOLS
from crystrata.errors import DataError
from crystrata.files import digest_of_json, write_text

FILE = Path(__file__).with_name("element_features.csv")

_PROPERTIES = (  # attribute of pymatgen's Element, unit, whether it spans decades (its logarithm is taken)
    ("Z", "", False),
    ("row", "", False),
    ("group", "", False),
    ("mendeleev_no", "", False),
    ("atomic_mass", "u", False),
    ("X", "Pauling", False),
    ("ionization_energy", "eV", False),
    ("electron_affinity", "eV", False),
    ("max_oxidation_state", "", False),
    ("min_oxidation_state", "", False),
    ("s_electrons", "outer shell", False),
    ("p_electrons", "outer shell", False),
    ("d_electrons", "one shell below", False),
    ("f_electrons", "two shells below", False),
    ("atomic_radius", "A", False),
    ("atomic_radius_calculated", "A", False),
    ("van_der_waals_radius", "A", False),
    ("metallic_radius", "A", False),
    ("average_ionic_radius", "A", False),
    ("molar_volume", "cm^3/mol", False),
    ("density_of_solid", "kg/m^3", False),
    ("melting_point", "K", False),
    ("boiling_point", "K", False),
    ("thermal_conductivity", "W/(m K)", True),
    ("electrical_resistivity", "ohm m", True),
    ("coefficient_of_linear_thermal_expansion", "1/K", True),
    ("velocity_of_sound", "m/s", False),
    ("bulk_modulus", "GPa", True),
    ("youngs_modulus", "GPa", True),
    ("rigidity_modulus", "GPa", True),
    ("poissons_ratio", "", False),
    ("mineral_hardness", "Mohs", False),
    ("brinell_hardness", "MPa", True),
)
_SHELLS = {"s_electrons": ("s", 0), "p_electrons": ("p", 0), "d_electrons": ("d", 1), "f_electrons": ("f", 2)}
_ZERO_IS_UNKNOWN = {"average_ionic_radius"}


@dataclass(frozen=True)
class ElementFeatures:
    """Features of all elements."""

    names: tuple[str, ...]  # name of each feature, (F,)
    values: np.ndarray  # (Z, F) float64 in the order of `SYMBOLS`, read-only, no gaps, no constant column
    digest: str  # SHA-256 of names and values; checkpoints hold it


@cache
def load_element_features() -> ElementFeatures:
    """Read the table that comes with the package; a DataError if it is missing or damaged."""
    try:
        with open(FILE, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(line for line in file if not line.startswith("#"))
        values = np.array([row[1:] for row in rows], dtype=np.float64)
        symbols = tuple(row[0] for row in rows)
    except (OSError, ValueError) as error:
        raise DataError(f"{FILE} cannot be read ({error}); install crystrata again") from None
    names = tuple(header[1:])
    if symbols != SYMBOLS or values.shape != (MAX_ATOMIC_NUMBER, len(names)) or not np.isfinite(values).all():
        raise DataError(f"{FILE} is damaged; install crystrata again")
    values.setflags(write=False)
    return ElementFeatures(names, values, digest_of_json({"names": names, "values": values.tolist()}))


def element_features_csv() -> str:
    """Return the content of the table, made from pymatgen's element data: gaps filled, constant columns dropped."""
    from pymatgen.core import Element

    elements = [Element(symbol) for symbol in SYMBOLS]
    rows = np.array([element.row for element in elements])
    columns = np.array([_column(element) for element in elements])
    names, features, units, filled = [], [], [], []
    for attribute, unit, decades in _PROPERTIES:
        known = np.array([_known_value(element, attribute) for element in elements])
        values = _filled(np.log10(known) if decades else known, rows, columns)
        if np.ptp(values) > 0:
            names.append(f"log10_{attribute}" if decades else attribute)
            features.append(values)
            units.append(f"#   {names[-1]}{f' [{unit}]' if unit else ''}")
            filled.append(int(np.isnan(known).sum()))
    head = [
        f"# Features of the elements H to Lr from the Element data of pymatgen-core {version('pymatgen-core')}, made",
        "# by `python -m crystrata.compositions.element_features`. A gap is the mean of the nearest known elements",
        "# above and below in the group (lanthanides and actinides pair up), or else of those beside it in the row.",
        "# log10 means: of the number in the unit given.",
        "# Features, with unit and number of filled gaps:",
        *(f"{unit}: {gaps}" for unit, gaps in zip(units, filled, strict=True)),
    ]
    table = np.array(features).T
    lines = [",".join([symbol, *(f"{value:.6g}" for value in row)]) for symbol, row in zip(SYMBOLS, table, strict=True)]
    return "\n".join([*head, ",".join(["symbol", *names]), *lines]) + "\n"


def _known_value(element: Any, attribute: str) -> float:
    """Return one property of an element, NaN where pymatgen has none."""
    if attribute in _SHELLS:
        letter, below = _SHELLS[attribute]
        shells = element.full_electronic_structure
        return float(sum(count for n, shell, count in shells if shell == letter and n == element.row - below))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one for each gap
        value = getattr(element, attribute)
    number = math.nan if value is None else float(value)
    return math.nan if number == 0 and attribute in _ZERO_IS_UNKNOWN else number


def _column(element: Any) -> int:
    """Return the group, 1 to 18, or a column of its own for each pair of a lanthanide and an actinide."""
    if element.is_lanthanoid or element.is_actinoid:
        return 100 + int(element.Z) - (57 if element.is_lanthanoid else 89)
    return int(element.group)


def _filled(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Fill gaps of one property (Z,) from the group, then from the row, in turn until none is left."""
    while np.isnan(values).any():
        values = _between_neighbours(_between_neighbours(values, columns), rows)
    return values


def _between_neighbours(values: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Fill gaps with the mean of the nearest known values before and after in the same line of the periodic table."""
    filled = values.copy()
    for gap in np.flatnonzero(np.isnan(values)):
        known = np.flatnonzero((line == line[gap]) & ~np.isnan(values))
        nearest = [*known[known < gap][-1:], *known[known > gap][:1]]
        if nearest:
            filled[gap] = values[nearest].mean()
    return filled


if __name__ == "__main__":
    write_text(FILE, element_features_csv())
