"""What the semi-empirical relations know about an element: electronegativity, radius, valences, outer electrons."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

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
    """Constants of one element.

    Attributes:
        number: Atomic number.
        electronegativity: Pauling's scale.
        radius: Slater's radius; two of them sum to a bond length within about 0.1 A, whatever the kind of bond [A].
        valences: Lowest and highest usual valence.
        anion_valence: Electrons missing to the octet, 8 - group, or 0 for an element that forms no anions.
        outer_electrons: Valence s and p electrons, and the bonding d electrons of a transition metal.
        metal: Whether its bonds to its like are metallic.
    """

    number: int
    electronegativity: float
    radius: float
    valences: tuple[int, int]
    anion_valence: int
    outer_electrons: float
    metal: bool

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
