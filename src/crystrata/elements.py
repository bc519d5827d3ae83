"""The element table: atomic number <-> symbol, hydrogen to lawrencium, and the limit the networks embed."""

from __future__ import annotations

from crystrata.errors import InputError, nearest

SYMBOLS: tuple[str, ...] = tuple(
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu "
    "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr".split()
)
"""Symbols in order of atomic number; `SYMBOLS[z - 1]` is the element with atomic number z."""

MAX_ATOMIC_NUMBER = len(SYMBOLS)

INERT_OR_UNSTABLE = tuple("He Ne Ar Kr Xe Rn Tc Pm Po At Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr".split())
"""Noble gases, and elements without a stable isotope: compositions are sought without them."""

COVALENT_RADII = (
    0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58, 1.66, 1.41, 1.21, 1.11, 1.07, 1.05, 1.02, 1.06,
    2.03, 1.76, 1.70, 1.60, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22, 1.22, 1.20, 1.19, 1.20, 1.20, 1.16,
    2.20, 1.95, 1.90, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44, 1.42, 1.39, 1.39, 1.38, 1.39, 1.40,
    2.44, 2.15, 2.07, 2.04, 2.03, 2.01, 1.99, 1.98, 1.98, 1.96, 1.94, 1.92, 1.92, 1.89, 1.90, 1.87, 1.87,
    1.75, 1.70, 1.62, 1.51, 1.44, 1.41, 1.36, 1.36, 1.32, 1.45, 1.46, 1.48, 1.40, 1.50, 1.50,
    2.60, 2.21, 2.15, 2.06, 2.00, 1.96, 1.90, 1.87, 1.80, 1.69, 1.69, 1.69, 1.69, 1.69, 1.69, 1.69, 1.69,
)  # fmt: skip
"""Covalent radius of each element [A] (Cordero et al., Dalton Transactions 2008, 2832), in the order of `SYMBOLS`; from
berkelium on, where none is known, that of curium."""

_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)}


def atomic_number(symbol: str) -> int:
    """Return the atomic number of a symbol; an InputError for others, nothing is guessed (\"Wat\" is not oxygen)."""
    try:
        return _NUMBERS[symbol]
    except KeyError:
        raise InputError(f"unknown element {symbol!r}{nearest(symbol, SYMBOLS)} (elements H to Lr are known)") from None
