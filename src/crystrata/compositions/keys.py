"""Composition keys: one canonical string for a formula, dictionary or composition object; atomic fractions; groups.

Elements stand in alphabetical order, as in `Crystal.formula`; amounts are not reduced: `Fe4O6` is not `Fe2O3`, because
some descriptors add rather than average. n compositions, Z = MAX_ATOMIC_NUMBER.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from crystrata.elements import MAX_ATOMIC_NUMBER, SYMBOLS, atomic_number
from crystrata.errors import InputError, nearest

_TOKEN = re.compile(r"([(\[{])|([A-Z][a-z]?|[)\]}])((?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)?")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_KNOWN = frozenset(SYMBOLS)
_MISSING = {"None", "nan", "NaT", "<NA>"}
_LARGEST_DENOMINATOR = 10**5  # of ratios of amounts: a rounded 0.333333333333 counts as a third, a dopant of 1e-4 stays


def formula_amounts(formula: str) -> dict[str, float]:
    """Read a formula such as `Fe2O3`, `Li0.5CoO2`, `Ca3[Fe(CN)6]2` or `Fe₂O₃`; spaces do not count.

    Returns the amount of each element, all positive; amounts of 0 are left out. An InputError if it is no formula, or
    has an element outside the table; isotopes are refused, as in structures.
    """
    text = formula if formula.isascii() else unicodedata.normalize("NFKC", formula)
    text = "".join(text.split())
    levels: list[dict[str, float]] = [{}]
    open_brackets: list[str] = []
    end = 0
    for token in _TOKEN.finditer(text):
        if token.start() != end:
            break
        end = token.end()
        opening, name, number = token.groups()
        if opening:
            open_brackets.append(opening)
            levels.append({})
            continue
        amount = float(number) if number else 1.0
        inner = {name: 1.0}
        if name in ")]}":
            if not open_brackets or _CLOSING[open_brackets.pop()] != name:
                raise _unreadable(formula)
            inner = levels.pop()
        level = levels[-1]
        for symbol, count in inner.items():
            level[symbol] = level.get(symbol, 0.0) + count * amount
    if end != len(text) or open_brackets:
        raise _unreadable(formula)
    return _checked({symbol: amount for symbol, amount in levels[0].items() if amount > 0}, formula)


def _unreadable(formula: object) -> InputError:
    return InputError(f"formula {formula!r} cannot be read: write element symbols and amounts, such as Fe2O3")


def _checked(amounts: dict[str, float], origin: object) -> dict[str, float]:
    if not amounts:
        raise InputError(f"formula {origin!r} holds no atom")
    if not _KNOWN.issuperset(amounts):
        raise _unknown_element(next(symbol for symbol in amounts if symbol not in _KNOWN), origin)
    if not all(map(math.isfinite, amounts.values())):
        raise InputError(f"formula {origin!r} has an amount that is too large for a number")
    return amounts


def _unknown_element(symbol: str, origin: object) -> InputError:
    if symbol in ("D", "T"):
        return InputError(f"formula {origin!r}: {symbol!r} is an isotope; write H if the isotope does not matter")
    hint = nearest(symbol, SYMBOLS)
    return InputError(f"formula {origin!r}: unknown element {symbol!r}{hint} (elements H to Lr are known)")


def composition_key(composition: object) -> str:
    """Return the key under which every table knows a composition: the canonical formula. The key of a key is itself.

    A composition is a formula, a mapping of elements to amounts (also a pymatgen `Composition`, charges ignored), or
    anything else. Amounts that are missing or not positive do not count; 12 digits of an amount do. What is no formula
    of known elements keeps its own text, so that made-up names still join tables; a missing value (None, NaN) has an
    empty key.
    """
    text = str(composition)
    if not isinstance(composition, (str, Mapping)):
        return "" if text in _MISSING else text
    try:
        amounts = _mapping_amounts(composition) if isinstance(composition, Mapping) else formula_amounts(composition)
    except InputError:
        return text
    return _written({symbol: _digits(amount) for symbol, amount in amounts.items()})


def composition_keys(compositions: Iterable[object]) -> list[str]:
    """Return the key of each composition, reading each distinct formula once."""
    known: dict[str, str] = {}
    keys = []
    for composition in compositions:
        if not isinstance(composition, str):
            keys.append(composition_key(composition))
            continue
        key = known.get(composition)
        if key is None:
            key = known[composition] = composition_key(composition)
        keys.append(key)
    return keys


def _mapping_amounts(composition: Mapping[Any, Any]) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for element, given in composition.items():
        try:
            amount = 0.0 if given is None else float(given)
        except (TypeError, ValueError):
            raise InputError(f"{given!r} is no amount of {element}") from None
        if amount > 0:
            symbol = str(getattr(element, "symbol", element))
            amounts[symbol] = amounts.get(symbol, 0.0) + amount
    return _checked(amounts, composition)


def _digits(amount: float) -> str:
    """Write an amount without exponent: `2`, `0.5`."""
    text = f"{amount:.12g}"
    return format(Decimal(text), "f") if "e" in text else text


def _written(amounts: Mapping[str, str]) -> str:
    return "".join(symbol + ("" if amounts[symbol] == "1" else amounts[symbol]) for symbol in sorted(amounts))


def group_key(formula: str) -> str:
    """Return the reduced formula, by which splits keep polymorphs together: that of `Crystal.formula`.

    Broken amounts are reduced by their ratios: `Fe0.4O0.6` and `Fe4O6` give `Fe2O3`. What is no formula stays as it is.
    """
    try:
        amounts = formula_amounts(formula)
    except InputError:
        return formula
    if all(amount.is_integer() for amount in amounts.values()):
        whole = {symbol: int(amount) for symbol, amount in amounts.items()}
    else:
        least = min(amounts.values())
        ratios = {symbol: _ratio(amount, least) for symbol, amount in amounts.items()}
        shared = math.lcm(*(ratio.denominator for ratio in ratios.values()))
        whole = {symbol: int(ratio * shared) for symbol, ratio in ratios.items()}
    divisor = math.gcd(*whole.values())
    return _written({symbol: str(amount // divisor) for symbol, amount in whole.items()})


def _ratio(amount: float, least: float) -> Fraction:
    return (Fraction(_digits(amount)) / Fraction(_digits(least))).limit_denominator(_LARGEST_DENOMINATOR)


def weights(formulas: Iterable[str]) -> np.ndarray:
    """Return atomic fractions, (n, Z) float64; column z - 1 belongs to the element with atomic number z.

    An InputError names a formula that cannot be read or has an element outside the table.
    """
    return _fractions([formula_amounts(formula) for formula in formulas])


def known_weights(formulas: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return fractions (n, Z) as `weights`, zero where a formula cannot be read; and where it can, (n,) bool."""
    rows: list[dict[str, float]] = []
    for formula in formulas:
        try:
            rows.append(formula_amounts(formula))
        except InputError:
            rows.append({})
    return _fractions(rows), np.array([bool(row) for row in rows], dtype=bool)


def _fractions(rows: list[dict[str, float]]) -> np.ndarray:
    table = np.zeros((len(rows), MAX_ATOMIC_NUMBER))
    for row, amounts in zip(table, rows, strict=True):
        if amounts:
            largest = max(amounts.values())  # the sum of huge amounts would overflow
            total = math.fsum(amount / largest for amount in amounts.values())
            for symbol, amount in amounts.items():
                row[atomic_number(symbol) - 1] = amount / largest / total
    return table


def atomic_fractions(numbers: np.ndarray, atom_offsets: np.ndarray) -> np.ndarray:
    """Return fractions, (n, 103) float32, from flat atomic numbers and each crystal's first atom, (n + 1,)."""
    n = len(atom_offsets) - 1
    crystal = np.repeat(np.arange(n), np.diff(atom_offsets))
    cell = crystal * MAX_ATOMIC_NUMBER + numbers.astype(np.int64) - 1
    counts = np.bincount(cell, minlength=n * MAX_ATOMIC_NUMBER).reshape(n, MAX_ATOMIC_NUMBER)
    return (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
