"""Constraints on compositions, checked before a search starts. B compositions, n elements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from crystrata.elements import SYMBOLS
from crystrata.errors import UsageError, nearest

ELEMENTS = len(SYMBOLS)


@dataclass(frozen=True)
class Constraints:
    """Constraints on compositions; combinations that cannot be satisfied are refused with the reason.

    Attributes:
        allowed_elements: Symbols that may occur; None for all.
        max_elements: Largest number of elements, K; None for any number.
        fixed_amounts: Symbol -> atomic fraction.
        element_step_scale: Symbol -> how fast its amount changes: 1 like the others, 0 not at all, which freezes the
            amount of the seed.
        min_nonzero_weight: Smallest atomic fraction of an element that occurs and has no fixed amount.

    Raises:
        UsageError: A value is out of range, or two constraints contradict each other.
    """

    allowed_elements: Sequence[str] | None = None
    max_elements: int | None = None
    fixed_amounts: Mapping[str, float] = field(default_factory=dict)
    element_step_scale: Mapping[str, float] = field(default_factory=dict)
    min_nonzero_weight: float = 0.0

    def __post_init__(self) -> None:
        for place, symbols in (
            ("allowed_elements", self.allowed_elements or ()),
            ("fixed_amounts", self.fixed_amounts),
            ("element_step_scale", self.element_step_scale),
        ):
            for symbol in symbols:
                if symbol not in SYMBOLS:
                    raise UsageError(f"{place}: unknown element {symbol!r}{nearest(symbol, SYMBOLS)}")
        if self.allowed_elements is not None and not self.allowed_elements:
            raise UsageError("allowed_elements is empty: name some elements, or leave it out to allow all")
        self._check_ranges()
        self._check_pairs()

    def _check_ranges(self) -> None:
        for symbol, amount in self.fixed_amounts.items():
            if not 0 < amount < 1:
                raise UsageError(f"fixed_amounts: {symbol} must be above 0 and below 1, not {amount}")
        if (total := self.fixed_mass) >= 1:
            raise UsageError(f"fixed_amounts add up to {total:g}: leave something for other elements")
        for symbol, scale in self.element_step_scale.items():
            if not 0 <= scale <= 1:
                raise UsageError(f"element_step_scale: {symbol} must be from 0 to 1, not {scale}")
        if self.max_elements is not None and not 1 <= self.max_elements <= ELEMENTS:
            raise UsageError(f"max_elements must be from 1 to {ELEMENTS}, not {self.max_elements}")
        if not 0 <= self.min_nonzero_weight < 1:
            raise UsageError(f"min_nonzero_weight must be from 0 to below 1, not {self.min_nonzero_weight}")

    def _check_pairs(self) -> None:
        allowed, locked, floor = self.allowed, self.locked, self.min_nonzero_weight
        if outside := [SYMBOLS[place] for place in np.flatnonzero(locked & ~allowed)]:
            raise UsageError(f"{', '.join(outside)} is fixed or frozen, but not among allowed_elements")
        if both := sorted(set(self.fixed_amounts) & set(self._frozen)):
            raise UsageError(f"{both[0]} has a fixed amount and element_step_scale 0: give one of them")
        if not (allowed & ~locked).any():
            raise UsageError("every allowed element is fixed or frozen: nothing is left to optimise")
        if self.max_elements is not None:
            if self.max_elements > allowed.sum():
                raise UsageError(f"max_elements {self.max_elements} is more than the {allowed.sum()} allowed elements")
            if self.max_elements <= locked.sum():
                raise UsageError(
                    f"max_elements {self.max_elements} leaves no element beside the {locked.sum()} fixed or frozen ones"
                )
            if floor > 1 / self.max_elements:
                raise UsageError(
                    f"min_nonzero_weight {floor:g} is above 1/{self.max_elements}: not all max_elements can have it"
                )
        if small := [symbol for symbol, amount in self.fixed_amounts.items() if amount < floor]:
            raise UsageError(f"fixed_amounts: {small[0]} is below min_nonzero_weight {floor:g}")
        if floor > 1 - self.fixed_mass + 1e-12:
            raise UsageError(f"min_nonzero_weight {floor:g} is above what fixed_amounts leave, {1 - self.fixed_mass:g}")

    @property
    def fixed_mass(self) -> float:
        """Sum of the fixed amounts."""
        return math.fsum(self.fixed_amounts.values())

    @property
    def allowed(self) -> np.ndarray:
        """Which elements may occur, (n,) bool."""
        return np.array([self.allowed_elements is None or symbol in self.allowed_elements for symbol in SYMBOLS])

    @property
    def _frozen(self) -> list[str]:
        return [symbol for symbol, scale in self.element_step_scale.items() if scale == 0]

    @property
    def locked(self) -> np.ndarray:
        """Which elements have a fixed or frozen amount, (n,) bool."""
        return np.array([symbol in self.fixed_amounts or symbol in self._frozen for symbol in SYMBOLS])

    @property
    def step_scale(self) -> np.ndarray:
        """How fast each amount may change, (n,)."""
        return np.array([self.element_step_scale.get(symbol, 1.0) for symbol in SYMBOLS])

    def locked_amounts(self, seeds: np.ndarray | None, rows: int) -> np.ndarray:
        """Return the amounts of the fixed and frozen elements, (B, n), 0 elsewhere.

        Args:
            seeds: Atomic fractions to start from, (B, n), or None for random starts.
            rows: B.

        Raises:
            UsageError: An element is frozen but there are no seeds, or a seed leaves nothing for other elements.
        """
        amounts = np.zeros((rows, ELEMENTS))
        for symbol, amount in self.fixed_amounts.items():
            amounts[:, SYMBOLS.index(symbol)] = amount
        if not self._frozen:
            return amounts
        if seeds is None:
            raise UsageError(f"element_step_scale 0 freezes {self._frozen[0]} at the amount of a seed: give seeds")
        for symbol in self._frozen:
            place = SYMBOLS.index(symbol)
            amounts[:, place] = seeds[:, place]
        floor = self.min_nonzero_weight
        free = 1 - amounts.sum(axis=1)
        if (bad := np.flatnonzero((free <= 1e-9) | (free < floor - 1e-12))).size:
            raise UsageError(f"seed {bad[0] + 1}: fixed and frozen elements leave {free[bad[0]]:.3g} for all others")
        frozen = amounts[:, [SYMBOLS.index(symbol) for symbol in self._frozen]]
        if ((frozen > 0) & (frozen < floor)).any():
            raise UsageError(
                f"an element is frozen at an amount below min_nonzero_weight {floor:g}: raise it in the seed"
            )
        return amounts
