"""Smooth bonds of a crystal, and the constants of its elements that they follow from. N atoms, E bonds.

Bonds are weighted by Hoppe's effective coordination, so that no label jumps when an atom moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from crystrata.elements import SYMBOLS
from crystrata.structures.crystal import Crystal

_VALENCES: dict[tuple[int, int], str] = {
    (1, 1): "H F Cl Br I Li Na K Rb Cs Ag",
    (1, 2): "Cu",
    (1, 3): "Tl In Au",
    (2, 2): "O Be Mg Ca Sr Ba Zn Cd Hg",
    (2, 3): "Fe Co Ni Cr",
    (2, 4): "Ge Sn Pb Mn Pd Pt",
    (2, 6): "S Se Te",
    (3, 3): "B Al Ga Sc Y La Bi",
    (3, 4): "Ce Rh Ir Ru Os Re",
    (3, 5): "N P As Sb",
    (4, 4): "C Si Ti Zr Hf Th U",
    (5, 5): "V Nb Ta",
    (6, 6): "Mo W",
}
"""(lowest, highest) usual valence -> elements."""

_TETRAHEDRAL_RADII = {"C": 0.77, "Si": 1.17}  # [A] half the bond length of diamond and silicon; Slater's are too small


@dataclass(frozen=True)
class Atom:
    """Constants of one element."""

    number: int
    electronegativity: float  # Pauling's scale
    radius: float  # Slater's radius; two of them sum to a bond length within about 0.1 A, whatever the kind of bond [A]
    valences: tuple[int, int]  # lowest and highest usual valence
    anion_valence: int  # electrons missing to the octet, 8 - group, or 0 for an element that forms no anions
    outer_electrons: float  # valence s and p electrons, and the bonding d electrons of a transition metal
    metal: bool  # whether its bonds to its like are metallic

    @property
    def valence(self) -> float:
        """Bonds that the atom usually makes: a metal's mean valence, else what octet and electrons allow."""
        return sum(self.valences) / 2 if self.metal else float(min(self.anion_valence, self.valences[1]))


@cache
def atom(symbol: str) -> Atom:
    """Return the constants of an element used by the demo crystals (J. C. Slater, J. Chem. Phys. 41, 3199 (1964))."""
    from pymatgen.core import Element

    element = Element(symbol)
    valences = next(span for span, symbols in _VALENCES.items() if symbol in symbols.split())
    metal = bool(element.is_metal)
    forms_anions = element.block == "p" and (element.group >= 14 or not metal)
    return Atom(
        number=element.Z,
        electronegativity=float(element.X),
        radius=_TETRAHEDRAL_RADII.get(symbol, float(element.atomic_radius)),
        valences=valences,
        anion_valence=18 - element.group if forms_anions else int(symbol == "H"),
        outer_electrons=float(element.group - 10) if element.block == "p" else sum(valences) / 2,
        metal=metal,
    )


CUTOFF = 9.0  # [A] beyond 1.6 bond lengths of the largest atoms, where a weight is below 1e-6 of a bond


@dataclass(frozen=True)
class Bonds:
    """Bonds of one crystal, each in both directions."""

    atoms: list[Atom]  # constants of each of the N atoms
    centre: np.ndarray  # index of the atom at one end, (E,); `neighbour` at the other
    neighbour: np.ndarray
    length: np.ndarray  # (E,) [A]
    direction: np.ndarray  # unit vectors from centre to neighbour, (E, 3)
    weight: np.ndarray  # share of a full bond, (E,), 0 to about 1; equal in both directions
    coordination: np.ndarray  # effective coordination number of each atom, (N,)

    def mean(self, values: np.ndarray) -> float:
        """Return the mean of values (E,) over the bonds."""
        return float(np.average(values, weights=self.weight))

    def of_atoms(self, field: str) -> np.ndarray:
        """Return one constant of the atoms, (N,) float64."""
        return np.array([getattr(atom, field) for atom in self.atoms], dtype=np.float64)


def bonds_of(crystal: Crystal) -> Bonds:
    """Find the bonds of a crystal.

    The weight follows R. Hoppe, Z. Kristallogr. 150, 23 (1979), exp(1 - (d / d_mean)^6), with the mean taken over
    d^-12 so that the nearest atoms set it. Atoms of like charge do not bond: their weight falls with the product of
    their charges, which the electronegativities give.
    """
    centre, neighbour, vectors = _pairs(crystal)
    length = np.linalg.norm(vectors, axis=1)
    atoms = [atom(SYMBOLS[number - 1]) for number in crystal.numbers]
    electronegativity = np.array([item.electronegativity for item in atoms])
    charge = np.tanh((electronegativity.mean() - electronegativity) / 0.4)
    product = charge[centre] * charge[neighbour]
    attraction = (1 - product) / (1 + np.abs(product))

    near = attraction * length**-12.0
    mean = np.bincount(centre, near * length, len(atoms)) / np.bincount(centre, near, len(atoms))
    hoppe = np.exp(1 - (length[:, None] / np.stack([mean[centre], mean[neighbour]], axis=1)) ** 6).mean(axis=1)
    weight = attraction * hoppe
    kept = weight > 1e-9
    return Bonds(
        atoms=atoms,
        centre=centre[kept],
        neighbour=neighbour[kept],
        length=length[kept],
        direction=vectors[kept] / length[kept, None],
        weight=weight[kept],
        coordination=np.bincount(centre, weight, len(atoms)),
    )


def _pairs(crystal: Crystal) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centre (E,), neighbour (E,) and vector (E, 3) [A] of all pairs within the cutoff, images included."""
    # Planes of a cell vector lie 1 / |reciprocal vector| apart; one image more covers fractions within [0, 1).
    reach = np.ceil(CUTOFF * np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0)).astype(int) + 1
    axes = [np.arange(-count, count + 1) for count in reach]
    images = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) @ crystal.lattice
    positions = (crystal.frac % 1.0) @ crystal.lattice
    between = positions[None, :] - positions[:, None]
    vectors = between[:, :, None] + images
    squared = np.einsum("ijmx,ijmx->ijm", vectors, vectors)
    centre, neighbour, image = np.nonzero((squared < CUTOFF**2) & (squared > 1e-6))
    return centre, neighbour, vectors[centre, neighbour, image]
