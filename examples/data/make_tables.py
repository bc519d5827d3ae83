"""Makes the tables of this folder again: compositions with labels that follow from textbook relations, no measurements.

python examples/data/make_tables.py
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parent

METALS = {  # Pauling electronegativity, molar mass [g/mol]
    "Li": (0.98, 6.94), "Na": (0.93, 22.99), "K": (0.82, 39.10), "Rb": (0.82, 85.47), "Mg": (1.31, 24.31),
    "Ca": (1.00, 40.08), "Sr": (0.95, 87.62), "Ba": (0.89, 137.33), "Al": (1.61, 26.98), "Ga": (1.81, 69.72),
    "Y": (1.22, 88.91), "Ti": (1.54, 47.87), "Zr": (1.33, 91.22), "Mn": (1.55, 54.94), "Fe": (1.83, 55.85),
    "Zn": (1.65, 65.38), "Cd": (1.69, 112.41), "Sn": (1.96, 118.71),
}  # fmt: skip
OTHERS = {
    "O": (3.44, 16.00), "S": (2.58, 32.06), "Se": (2.55, 78.97), "N": (3.04, 14.01), "P": (2.19, 30.97),
    "F": (3.98, 19.00), "Cl": (3.16, 35.45), "Br": (2.96, 79.90),
}  # fmt: skip
CLASSES = ("polar", "ionic", "very ionic")


def materials() -> pd.DataFrame:
    """Return binary compounds with an energy, a class and a curve.

    The energy is Pauling's for one bond, minus the squared difference of electronegativities in eV, a half for each of
    its two atoms. The curve is the heat capacity of Einstein's model; its temperature follows from the reduced mass.
    """
    rows = []
    temperatures = np.arange(50, 651, 50)
    for (metal, (chi, mass)), (other, (chi_other, mass_other)) in product(METALS.items(), OTHERS.items()):
        difference = chi_other - chi
        energy = -(difference**2) / 2
        reduced = mass * mass_other / (mass + mass_other)
        x = 250 * np.sqrt(16 * max(difference, 0.2) / reduced) / temperatures
        capacity = 24.94 * x**2 * np.exp(x) / (np.exp(x) - 1) ** 2  # 3 R [J/mol/K]
        rows.append(
            {
                "composition": f"{metal}{other}",
                "bond_energy": round(energy, 3),
                "bond_class": CLASSES[int(difference > 1.2) + int(difference > 2)],
                "heat_capacity": np.round(capacity, 2).tolist(),
                "temperature": temperatures.tolist(),
            }
        )
    return pd.DataFrame(rows)


def spectra() -> pd.DataFrame:
    """Return compounds with a spectrum of 256 points: a band at the frequency of the bond."""
    rows, grid = [], np.linspace(0, 1, 256)
    for metal, other in list(product(METALS, ("O", "S", "Cl")))[:36]:
        (chi, mass), (chi_other, mass_other) = METALS[metal], OTHERS[other]
        centre = 0.9 * np.sqrt((chi_other - chi) / 3 * 6 / (mass * mass_other / (mass + mass_other)))
        spectrum = np.exp(-0.5 * ((grid - centre) / 0.06) ** 2)
        rows.append({"composition": f"{metal}{other}", "spectrum": np.round(spectrum, 1).tolist()})
    return pd.DataFrame(rows)


def dummy() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ten rows of two features, and their labels: a number and a list, split 6 / 2 / 2."""
    keys = ["LiF", "NaF", "KF", "LiCl", "NaCl", "KCl", "LiBr", "NaBr", "KBr", "MgO"]
    first, second = np.linspace(0.1, 1.0, 10), np.tile([0.2, 0.8], 5)
    steps = np.arange(5) / 4
    features = pd.DataFrame({"composition": keys, "feature_1": first.round(2), "feature_2": second})
    labels = pd.DataFrame(
        {
            "composition": keys,
            "task_A_column": (2 * first + second).round(3),
            "task_B_column": [
                (a * np.sin(3 * steps) + b).round(3).tolist() for a, b in zip(first, second, strict=True)
            ],
            "task_B_steps": [steps.tolist()] * 10,
            "split": ["train"] * 6 + ["val"] * 2 + ["test"] * 2,
        }
    )
    return features, labels


def main() -> None:
    """Write every table."""
    features, labels = dummy()
    tables = {
        "materials": materials(),
        "spectra": spectra(),
        "dummy_formula_descriptors": features,
        "dummy_attributes": labels,
    }
    for name, table in tables.items():
        table.to_csv(FOLDER / f"{name}.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
