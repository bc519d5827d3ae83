"""Disordered sites, read as their majority species where a person asks for it. M sites."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from crystrata.elements import SYMBOLS
from crystrata.structures.crystal import CrystalError

OCCUPANCY_TOLERANCE = 1e-3
_ONE_POSITION = 0.05  # [A] rows of a site table this close share one site
_ROUNDING = 0.02  # occupancies of a site may add to this much more than one: .67 + .34
_NOTED = 3  # sites named in a note


def is_full(occupancy: float) -> bool:
    """Return whether a site of this occupancy holds an atom in every cell."""
    return abs(occupancy - 1) <= OCCUPANCY_TOLERANCE


def majority_species(name: str, shares: Iterable[tuple[int, float]]) -> tuple[int | None, str]:
    """Return the species that holds most of a site, None for a vacancy, and the choice in words.

    `shares` are pairs (atomic number, occupancy); what is missing to one is the vacancy's. A CrystalError `disordered`
    if two hold the site equally, or the occupancies are none.
    """
    held: dict[int | None, float] = defaultdict(float)
    for species, occupancy in shares:
        if not 0 <= occupancy <= 1 + OCCUPANCY_TOLERANCE:
            raise CrystalError("disordered", f"the site {name!r} has occupancy {occupancy:g}; it must be 0 to 1")
        held[species] += occupancy
    total = sum(held.values())
    if total > 1 + _ROUNDING:
        raise CrystalError("disordered", f"the occupancies of the site {name!r} add to {total:g}, more than one")
    words = ", ".join(f"{SYMBOLS[species - 1]} {share:.3g}" for species, share in held.items() if species)
    held[None] += max(0.0, 1 - total)
    first, second = [*sorted(held.items(), key=lambda item: -item[1]), (None, 0.0)][:2]
    if first[1] - second[1] <= OCCUPANCY_TOLERANCE:
        raise CrystalError(
            "disordered", f"the site {name!r} ({words}) has no majority species; give an ordered model with full sites"
        )
    return first[0], f"{name} ({words}) as {SYMBOLS[first[0] - 1] if first[0] else 'empty'}"


def majority_rows(
    names: Sequence[str], numbers: Sequence[int], frac: np.ndarray, occupancies: Sequence[float], cell: np.ndarray
) -> tuple[list[int], list[str]]:
    """Choose among the M rows of a site table; rows at one position share a site, full sites stay as they are.

    Fractional coordinates (M, 3), cell with vectors as rows (3, 3) [A]. Returns the rows to keep, ascending, and the
    choices in words; a CrystalError as of `majority_species`.
    """
    kept, choices, left = list[int](), list[str](), list(range(len(names)))
    while left:
        apart = frac[left] - frac[left[0]]
        close = np.linalg.norm((apart - np.round(apart)) @ cell, axis=1) < _ONE_POSITION
        site = [row for row, here in zip(left, close, strict=True) if here]
        left = [row for row, here in zip(left, close, strict=True) if not here]
        if all(is_full(occupancies[row]) for row in site):
            kept += site
            continue
        species, words = majority_species(names[site[0]], [(numbers[row], occupancies[row]) for row in site])
        kept += [row for row in site if numbers[row] == species][:1]
        choices.append(words)
    return sorted(kept), choices


def note_of(choices: Sequence[str]) -> str:
    """Return a line about the choices; an empty one if there were none."""
    if not choices:
        return ""
    more = f" and {len(choices) - _NOTED} more" if len(choices) > _NOTED else ""
    return f"disordered, majority species taken: {', '.join(choices[:_NOTED])}{more}"
