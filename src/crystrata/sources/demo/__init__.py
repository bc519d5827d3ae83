"""The demo crystals: some 500 prototype structures made on the spot, with semi-empirical labels, for use offline."""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np
import pandas as pd

from crystrata.sources.demo.decorations import chemical_formula, decorate, decorations
from crystrata.sources.demo.labels import labels_of
from crystrata.sources.demo.prototypes import PROTOTYPES
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal

VERSION = 1
"""Raised whenever a label or a structure of the demo changes."""


def open_demo() -> CrystalTable:
    """Make the demo crystals: real prototypes with sensible elements, all nine properties labelled.

    Labels are smooth textbook relations of the structure (see `labels`), not DFT; the table is marked as demo. It has
    the label columns of the JARVIS data plus `formula`, `orientation` and `spacegroup`, and is the same on every call
    and every machine; nothing is read or downloaded.
    """
    crystals: list[Crystal] = []
    spacegroups: list[int] = []
    for number, (prototype, elements) in enumerate(decorations(), start=1):
        id = f"demo-{number:04d}-{chemical_formula(prototype, elements)}-{prototype}"
        crystals.append(decorate(id, prototype, elements))
        spacegroups.append(PROTOTYPES[prototype].spacegroup)
    labels = pd.DataFrame(
        [labels_of(crystal) for crystal in crystals], index=pd.Index([crystal.id for crystal in crystals], name="id")
    )
    labels["formation_energy_peratom"] = _from_the_elements(crystals, labels["formation_energy_peratom"].to_numpy())
    labels["formula"] = [crystal.formula for crystal in crystals]
    labels["ehull"] = _above_the_best(labels)
    labels["orientation"] = "original"
    labels["spacegroup"] = spacegroups
    return CrystalTable(
        name="demo",
        digest=_digest(crystals),
        labels=labels,
        crystals=partial(iter, crystals),
        demo=True,
        provenance={"source": "demo", "rows": len(crystals), "labels": "semi-empirical, not DFT"},
    )


def _from_the_elements(crystals: list[Crystal], energies: np.ndarray) -> np.ndarray:
    """Refer energies (C,) [eV/atom] to the best structure of each element in the table, whose own becomes 0."""
    reference: dict[int, float] = {}
    for crystal, energy in zip(crystals, energies, strict=True):
        if len(set(crystal.numbers.tolist())) == 1:
            number = int(crystal.numbers[0])
            reference[number] = min(energy, reference.get(number, energy))
    shift = [np.mean([reference.get(int(number), 0.0) for number in crystal.numbers]) for crystal in crystals]
    return np.asarray(np.round(energies - shift, 6) + 0.0)


def _above_the_best(labels: pd.DataFrame) -> np.ndarray:
    """Return the energy above the best structure of the same formula, or above the elements if they lie lower."""
    energy = labels["formation_energy_peratom"]
    best = energy.groupby(labels["formula"]).transform("min").clip(upper=0.0)
    return np.asarray(np.round((energy - best).to_numpy(), 6) + 0.0)


def _digest(crystals: list[Crystal]) -> str:
    digest = hashlib.sha256(f"crystrata demo {VERSION}\n".encode())
    for crystal in crystals:
        digest.update(f"{crystal.id} {len(crystal)}\n".encode())
        # Rounded further than the structures themselves, against the last bits of a machine's arithmetic.
        for values, decimals in ((crystal.lattice, 6), (crystal.frac, 6), (crystal.numbers, 0)):
            digest.update((np.round(values.astype("<f8"), decimals) + 0.0).tobytes())
    return digest.hexdigest()
