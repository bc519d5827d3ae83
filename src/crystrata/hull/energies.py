"""The convex hull of formation energies, spanned by chosen rows alone: energy above hull = energy - hull.

Which rows span the hull is the caller's choice (the training rows), so that no label of a tested crystal can pass
through it. n crystals, Z = MAX_ATOMIC_NUMBER.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations

import numpy as np

from crystrata.elements import MAX_ATOMIC_NUMBER, atomic_number
from crystrata.errors import InputError
from crystrata.hull.solvers import Solver, System, solve

Progress = Callable[[int, int], None]

STABLE_WITHIN = 1e-9  # [eV/atom] rounding of the solvers (5e-14 seen); a crystal this near the hull spans it
_SYSTEMS_AT_ONCE = 200
_FORMULA = re.compile(r"([A-Z][a-z]?)([1-9]\d*)?")


def formula_counts(formulas: Iterable[str]) -> np.ndarray:
    """Return the atoms of each element in formulas such as `Fe2O3`, (n, Z) int32; an InputError for other text."""
    rows = []
    for formula in formulas:
        if not formula or _FORMULA.sub("", formula):
            raise InputError(f"formula {formula!r} cannot be read: write symbols and whole numbers, such as Fe2O3")
        row = np.zeros(MAX_ATOMIC_NUMBER, dtype=np.int32)
        for symbol, count in _FORMULA.findall(formula):
            row[atomic_number(symbol) - 1] += int(count or 1)
        rows.append(row)
    return np.array(rows, dtype=np.int32).reshape(-1, MAX_ATOMIC_NUMBER)


def hull_energies(
    counts: np.ndarray,
    energies: np.ndarray,
    reference: np.ndarray,
    *,
    subsystems: bool = True,
    progress: Progress | None = None,
    solver: Solver | None = None,
) -> np.ndarray:
    """Return the hull energy at the composition of every crystal; each distinct composition is solved once.

    An element lies at 0, the definition of a formation energy, or at its lowest reference energy where that is
    negative. So a missing or unstable elemental reference never leaves a hole. Chemical systems are solved in order of
    size, and only entries found stable go on to larger ones: an unstable one cannot touch any hull.

    Args:
        counts: (n, Z) atoms of each element, from `formula_counts`.
        energies: (n,) formation energies [eV/atom], NaN where unknown.
        reference: (n,) True for the rows that span the hull; those of unknown energy are ignored.
        subsystems: Whether compounds of fewer elements compete, as they do in nature; else only the elements and the
            compounds of exactly the same elements.
        progress: Called with (compositions done, all compositions).
        solver: `pymatgen` (its phase diagram) or `scipy` (one linear program per batch of systems): equal within 1e-9
            eV/atom. Default: pymatgen where it is installed.

    Returns (n,) float64 [eV/atom], all finite, never above the energy of a reference row; an InputError if arrays do
    not fit each other, or a reference energy is infinite.
    """
    counts, energies, used = checked_reference(counts, energies, reference)
    compositions, row_of = np.unique(counts // np.gcd.reduce(counts, axis=1)[:, None], axis=0, return_inverse=True)
    row_of = row_of.reshape(-1)
    lowest = np.full(len(compositions), np.inf)
    np.minimum.at(lowest, row_of[used], energies[used])

    systems: dict[tuple[int, ...], list[int]] = {}
    for row, composition in enumerate(compositions):
        systems.setdefault(tuple(np.flatnonzero(composition).tolist()), []).append(row)
    terminals = np.zeros(MAX_ATOMIC_NUMBER)
    for elements, rows in systems.items():
        if len(elements) == 1:
            terminals[elements[0]] = min(lowest[rows[0]], 0.0)

    hull = compositions @ terminals / compositions.sum(axis=1)  # right for elements; overwritten for compounds
    stable: dict[tuple[int, ...], list[int]] = {}
    done = sum(len(rows) for elements, rows in systems.items() if len(elements) == 1)
    for batch in _batches(systems):
        problems = [_problem(elements, systems, stable, compositions, lowest, terminals) for elements in batch]
        for elements, found in zip(batch, solve(problems, solver), strict=True):
            rows = systems[elements]
            on_hull = lowest[rows] <= found + STABLE_WITHIN
            hull[rows] = np.where(on_hull, lowest[rows], found)
            if subsystems and on_hull.any():
                stable[elements] = [row for row, keep in zip(rows, on_hull, strict=True) if keep]
            done += len(rows)
        if progress is not None:
            progress(done, len(compositions))
    return hull[row_of]


def checked_reference(
    counts: np.ndarray, energies: np.ndarray, reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return counts (n, Z) int32, energies (n,) float64 and the rows of known energy that span the hull (n,) bool."""
    counts, energies, reference = np.asarray(counts), np.asarray(energies, dtype=np.float64), np.asarray(reference)
    if counts.ndim != 2 or counts.shape[1] != MAX_ATOMIC_NUMBER or not np.issubdtype(counts.dtype, np.integer):
        raise InputError(f"counts must be integers (n, {MAX_ATOMIC_NUMBER}), not {counts.dtype} {counts.shape}")
    if energies.shape != (len(counts),) or reference.shape != energies.shape or reference.dtype != bool:
        raise InputError(
            f"{len(counts)} compositions need {len(counts)} energies and a mask of as many booleans, "
            f"not {energies.shape} and {reference.dtype} {reference.shape}"
        )
    if not (counts.any(axis=1) & (counts >= 0).all(axis=1)).all():
        raise InputError("a crystal without atoms, or with a negative number of them, has no place on a hull")
    used = reference & ~np.isnan(energies)
    if not np.isfinite(energies[used]).all():
        raise InputError("a reference energy is infinite; use NaN where an energy is unknown")
    return counts.astype(np.int32, copy=False), energies, used


def _batches(systems: Mapping[tuple[int, ...], object]) -> Iterable[list[tuple[int, ...]]]:
    """Yield compound systems, small ones first, in lists of one size, as larger ones need the smaller ones' results."""
    for size in sorted({len(elements) for elements in systems} - {1}):
        layer = sorted(elements for elements in systems if len(elements) == size)
        yield from (layer[start : start + _SYSTEMS_AT_ONCE] for start in range(0, len(layer), _SYSTEMS_AT_ONCE))


def _problem(
    elements: tuple[int, ...],
    systems: Mapping[tuple[int, ...], list[int]],
    stable: Mapping[tuple[int, ...], list[int]],
    compositions: np.ndarray,
    lowest: np.ndarray,
    terminals: np.ndarray,
) -> System:
    """Collect the entries of one system: its elements, what is stable in its subsystems, its own known compounds."""
    within: Iterable[tuple[int, ...]]
    if 1 << len(elements) <= len(stable):
        within = (subset for size in range(2, len(elements)) for subset in combinations(elements, size))
    else:
        within = [subset for subset in stable if set(subset) < set(elements)]
    rows = [row for subset in within for row in stable.get(subset, ())]
    rows += [row for row in systems[elements] if lowest[row] < np.inf]
    columns = list(elements)
    return System(
        elements,
        np.vstack([np.eye(len(columns), dtype=np.int32), compositions[np.ix_(rows, columns)]]),
        np.concatenate([terminals[columns], lowest[rows]]),
        compositions[np.ix_(systems[elements], columns)],
    )
