"""Which energies span a hull, and who competes: the energy above hull, and what JARVIS published in 2021 as `ehull`.

The official 2021 label is no energy above hull (GaAs has 0.46 eV/atom), but it is one of other energies. Compared with
the formation energies of the same release, it is

    ehull = e - hull(e),    e = (E_f + x . mu) / n - x . (mu + nu),

with E_f the formation energy per atom, x the atomic fractions, mu the OptB88vdW energies of the elements and n the
atoms of the reduced formula: an energy per atom was taken for one per formula unit before the elements were subtracted.
The hull is that of the compounds of exactly the same elements, over the elements at 0. So rebuilt from all formation
energies of the release, 96 % of the labels agree within 0.001 eV/atom (`tests/unit/test_official_label.py`).
n crystals, Z = MAX_ATOMIC_NUMBER.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crystrata.elements import MAX_ATOMIC_NUMBER, SYMBOLS
from crystrata.errors import ModelError
from crystrata.tasks import Task

ELEMENT_ENERGIES = {
    "H": -3.4215, "He": 0.6311, "Li": -0.9244, "Be": -2.4465, "B": -5.9593, "C": -8.0283, "N": -6.8617, "O": -3.2078,
    "F": 0.1973, "Ne": 2.2865, "Na": 0.9406, "Mg": 1.1329, "Al": -2.2477, "Si": -4.1691, "P": -3.9612, "S": -2.5031,
    "Cl": -0.1318, "Ar": 1.9101, "K": 1.2323, "Ca": 0.5792, "Sc": -3.4668, "Ti": -5.0963, "V": -5.8011, "Cr": -6.3750,
    "Mn": -5.6403, "Fe": -4.5704, "Co": -4.3731, "Ni": -1.3802, "Cu": 0.5629, "Zn": 2.1008, "Ga": 0.5855,
    "Ge": -1.0667, "As": -3.0860, "Se": -1.8514, "Br": 0.1128, "Kr": 1.9222, "Rb": 1.2442, "Sr": 0.7505, "Y": -3.8739,
    "Zr": -5.7409, "Nb": -7.3137, "Mo": -7.9712, "Tc": -7.2662, "Ru": -5.9912, "Rh": -3.8527, "Pd": -2.2159,
    "Ag": 0.3603, "Cd": 2.5289, "In": 0.6537, "Sn": -0.5552, "Sb": -2.1439, "Te": -1.2141, "I": 0.4268, "Xe": 2.3179,
    "Cs": 1.5745, "Ba": 0.3250, "La": -2.5115, "Ce": -2.9022, "Pr": -2.2525, "Nd": -2.1810, "Pm": -2.1127,
    "Sm": -2.0347, "Eu": -2.0180, "Gd": -8.7577, "Tb": -1.9032, "Dy": -1.8756, "Ho": -1.8647, "Er": -1.8134,
    "Tm": -1.7959, "Yb": 1.0435, "Lu": -1.7818, "Hf": -7.2985, "Ta": -8.9411, "W": -9.9435, "Re": -9.2389,
    "Os": -7.9465, "Ir": -6.1572, "Pt": -3.4939, "Au": -0.5699, "Hg": 2.2457, "Tl": 0.8541, "Pb": -0.3311,
    "Bi": -1.1995, "Ac": -0.9722, "Th": -4.4958, "Pa": -6.3693, "U": -7.9486, "Np": -8.9819, "Pu": -10.0108,
}  # fmt: skip
"""Symbol -> OptB88vdW energy of the element [eV/atom], by least absolute deviations from the differences of total
energy (`optb88vdw_total_energy`) and formation energy in the 2021 release: 98 % of them agree within 0.002 eV/atom. No
energy above hull enters."""

LOWEST_ELEMENTS = {"S": -0.0178, "W": -0.5571, "Np": -0.4021, "Pu": -0.4877}
"""Symbol -> nu, how far the lowest known crystal of an element lay below that energy [eV/atom], where it did: as the
labels of the compounds of these elements tell."""

_ENERGIES = np.array([ELEMENT_ENERGIES.get(symbol, 0.0) for symbol in SYMBOLS[:MAX_ATOMIC_NUMBER]])
_LOWEST = np.array([LOWEST_ELEMENTS.get(symbol, 0.0) for symbol in SYMBOLS[:MAX_ATOMIC_NUMBER]])


@dataclass(frozen=True)
class Levels:
    """From formation energies to energies above a hull: slope * energy - level."""

    slope: np.ndarray  # (n,), a pure number
    level: np.ndarray  # (n,) [eV/atom]

    def __getitem__(self, rows: np.ndarray) -> Levels:
        return Levels(self.slope[rows], self.level[rows])

    def above(self, energies: np.ndarray) -> np.ndarray:
        """Return the energies above hull of crystals of given formation energies, (n,) [eV/atom]."""
        return self.slope * energies - self.level


@dataclass(frozen=True)
class Convention:
    """How a hull is made of formation energies."""

    # whether energies are taken for those of a formula unit, as in the official label of 2021
    per_formula_unit: bool = False
    subsystems: bool = True  # whether compounds of fewer elements compete
    elements: bool = True  # whether the crystals of an element compete; else elements lie at 0

    def energies(self, counts: np.ndarray) -> Levels:
        """Return how formation energies at compositions (n, Z) become the energies that the hull is made of."""
        if not self.per_formula_unit:
            return Levels(np.ones(len(counts)), np.zeros(len(counts)))
        atoms = counts.sum(axis=1)
        units = atoms / np.gcd.reduce(counts, axis=1)
        elements, lowest = counts @ _ENERGIES / atoms, counts @ _LOWEST / atoms
        return Levels(1 / units, elements * (1 - 1 / units) + lowest)

    def may_span(self, counts: np.ndarray) -> np.ndarray:
        """Return the compositions (n, Z) that may span the hull, (n,) bool."""
        return np.full(len(counts), True) if self.elements else np.count_nonzero(counts, axis=1) > 1


CONVENTIONS = {
    "ehull": Convention(),
    "ehull_official": Convention(per_formula_unit=True, subsystems=False, elements=False),
}
"""Property -> the hull that it is the distance from."""


def with_derived(
    tasks: Sequence[Task],
    values: Mapping[str, np.ndarray],
    levels: Mapping[str, Levels],
    known: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Return the values of tasks of one number, task -> (n,), from those of the tasks that have a head.

    An energy above hull is the formation energy minus the hull: of a label with its DFT energy, of a prediction with
    its predicted one. It is negative where a crystal lies below the hull of the training crystals.

    Args:
        tasks: What is wanted; a ModelError if a derived one has no hull.
        values: Labels or predictions of tasks that have a head, task -> (n,).
        levels: Task -> where the crystals lie over its hull; needed for each that is derived.
        known: Task -> its own labels (n,), which a derived one may have too.
    """
    found = {}
    for task in tasks:
        if not task.is_number:
            continue
        if known and task.name in known:
            found[task.name] = known[task.name]
        elif task.derived_from is None:
            found[task.name] = values[task.name]
        elif task.name not in levels:
            raise ModelError(
                f"{task.name} needs the convex hull of the training energies, and this model has none; train again"
            )
        else:
            lowest = -np.inf if task.lower is None else task.lower
            found[task.name] = np.maximum(levels[task.name].above(values[task.derived_from]), lowest)
    return found
