"""Two solvers of the hull of one chemical system: pymatgen's phase diagram and a linear program. They agree.

m entries and t targets of a system of k elements.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crystrata.elements import SYMBOLS
from crystrata.errors import DataError

Solver = Literal["pymatgen", "scipy"]

MAX_FACET_ELEMENTS = 8  # facets multiply with the dimension; a linear program does not mind


@dataclass(frozen=True)
class System:
    """One chemical system: entries that may span its hull (the k elements first), and where the hull is wanted."""

    elements: tuple[int, ...]  # columns of the counts, k
    entries: np.ndarray  # (m, k) atoms per formula unit
    energies: np.ndarray  # (m,) [eV/atom]
    targets: np.ndarray  # (t, k) atoms per formula unit


def solve(systems: Sequence[System], solver: Solver | None) -> list[np.ndarray]:
    """Return the hull energies (t,) [eV/atom] of systems with equally many elements."""
    if solver is None:
        solver = "pymatgen" if importlib.util.find_spec("pymatgen") else "scipy"
    if solver == "pymatgen" and len(systems[0].elements) <= MAX_FACET_ELEMENTS:
        return _by_phase_diagram(systems)
    return _by_linear_program(systems)


def _by_phase_diagram(systems: Sequence[System]) -> list[np.ndarray]:
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core.composition import Composition
    from pymatgen.core.periodic_table import Element

    hulls = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No Pauling electronegativity")  # He, Ne, Ar: only orders formulas
        for system in systems:
            elements = [Element(SYMBOLS[column]) for column in system.elements]

            def composition(row: np.ndarray, elements: list[Element] = elements) -> Composition:
                return Composition({element: int(count) for element, count in zip(elements, row, strict=True) if count})

            totals = system.energies * system.entries.sum(axis=1)  # [eV per formula unit]
            entries = [PDEntry(composition(row), total) for row, total in zip(system.entries, totals, strict=True)]
            diagram = PhaseDiagram(entries, elements)
            found = [diagram.get_hull_energy_per_atom(composition(row)) for row in system.targets]
            hulls.append(np.array(found, dtype=np.float64))
    return hulls


def _by_linear_program(systems: Sequence[System]) -> list[np.ndarray]:
    """Minimise, for every target at once, the energy of the mixture of entries that has the target's composition."""
    from scipy.optimize import linprog
    from scipy.sparse import block_diag, eye_array, kron

    points = [system.entries / system.entries.sum(axis=1, keepdims=True) for system in systems]
    goals = [system.targets / system.targets.sum(axis=1, keepdims=True) for system in systems]
    blocks = [kron(eye_array(len(goal)), point.T) for goal, point in zip(goals, points, strict=True)]
    costs = [np.tile(system.energies, len(system.targets)) for system in systems]
    result = linprog(
        np.concatenate(costs),
        A_eq=block_diag(blocks, format="csc"),
        b_eq=np.concatenate([goal.ravel() for goal in goals]),
        method="highs-ds",
        options={"dual_feasibility_tolerance": 1e-10},  # [eV/atom] the default, 1e-7, misses shallow hulls
    )
    if result.status != 0:
        raise DataError(f"the convex hull could not be solved ({result.message}); look for absurd formation energies")
    ends = np.cumsum([len(cost) for cost in costs])[:-1]
    return [
        part.reshape(len(system.targets), -1) @ system.energies
        for part, system in zip(np.split(result.x, ends), systems, strict=True)
    ]
