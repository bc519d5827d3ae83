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

_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)}


def atomic_number(symbol: str) -> int:
    """Return the atomic number of an element symbol.

    Raises:
        InputError: The symbol is no element of the table; nothing is guessed ("Wat" is not oxygen).
    """
    try:
        return _NUMBERS[symbol]
    except KeyError:
        raise InputError(f"unknown element {symbol!r}{nearest(symbol, SYMBOLS)} (elements H to Lr are known)") from None
