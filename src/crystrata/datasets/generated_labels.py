"""Labels that follow from the composition alone: tasks of the catalogues for which no column of JARVIS stands.

They are textbook relations between averages of element properties, made up to be learned, and name themselves
`generated_...` wherever they appear. B compositions, Z elements, x atomic fractions, <f> = sum_z x_z f_z.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from crystrata.compositions.element_features import load_element_features
from crystrata.compositions.keys import weights

TEMPERATURES = np.linspace(20.0, 600.0, 30)
"""Where the heat capacity is given [K]."""

BLOCKS = ("s", "p", "d", "f")
_QUADRATURE = 64  # points of the Debye integral
_HBAR_OVER_K = 7.638233e-12  # [K s]
_AVOGADRO = 6.02214076e23


def feature(name: str) -> np.ndarray:
    """Return a property of every element, (Z,)."""
    features = load_element_features()
    return features.values[:, features.names.index(name)]


def ionicity(x: np.ndarray) -> np.ndarray:
    """Return 1 - exp(-(X_max - X_min)^2 / 4) with Pauling's electronegativities X of the elements present, (B,)."""
    electronegativity = feature("X")
    highest = np.where(x > 0, electronegativity, -np.inf).max(1)
    lowest = np.where(x > 0, electronegativity, np.inf).min(1)
    return 1 - np.exp(-((highest - lowest) ** 2) / 4)


def melting_point(x: np.ndarray) -> np.ndarray:
    """Return <T_m> (1 + ionicity / 2) [K], (B,)."""
    return x @ feature("melting_point") * (1 + ionicity(x) / 2)


def size_mismatch(x: np.ndarray) -> np.ndarray:
    """Return 100 sqrt(<(1 - r / <r>)^2>) [%] of the atomic radii r, (B,)."""
    radius = feature("atomic_radius")
    relative = 1 - radius / (x @ radius)[:, None]
    return 100 * np.sqrt((x * relative**2).sum(1))


def thermal_conductivity(x: np.ndarray) -> np.ndarray:
    """Return 10^<lg k> (1 - ionicity) [W/(m K)], (B,)."""
    return 10 ** (x @ feature("log10_thermal_conductivity")) * (1 - ionicity(x))


def debye_temperature(x: np.ndarray) -> np.ndarray:
    """Return (hbar / k) v (6 pi^2 N_A / V)^(1/3) [K] with the mean velocity of sound v and molar volume V, (B,)."""
    volume = x @ feature("molar_volume") * 1e-6  # [m^3/mol]
    return _HBAR_OVER_K * (x @ feature("velocity_of_sound")) * np.cbrt(6 * np.pi**2 * _AVOGADRO / volume)


def heat_capacity(x: np.ndarray) -> np.ndarray:
    """Return C_V / 3R after Debye at `TEMPERATURES`, (B, 30).

    C_V / 3R = 3 (T / theta)^3 int_0^(theta/T) u^4 e^u / (e^u - 1)^2 du
    """
    upper = debye_temperature(x)[:, None] / TEMPERATURES
    node, share = np.polynomial.legendre.leggauss(_QUADRATURE)
    u = np.minimum(upper, 50.0)[:, :, None] * (node + 1) / 2  # beyond 50 the integrand is below 1e-15
    integrand = (u**2 / (2 * np.sinh(u / 2))) ** 2
    integral = (integrand * share).sum(2) * np.minimum(upper, 50.0) / 2
    return 3 * integral / upper**3


def block(x: np.ndarray) -> np.ndarray:
    """Return the block of the periodic table that most atoms belong to, (B,) of `BLOCKS`; ties take the earlier."""
    group, row, number = feature("group"), feature("row"), feature("Z")
    inner = ((row == 6) & (number < 71)) | ((row == 7) & (number < 103))
    of_element = np.where(group <= 2, 0, np.where(group >= 13, 1, np.where(inner & (group == 3), 3, 2)))
    of_element[number == 2] = 0  # helium
    shares = np.stack([x @ (of_element == place) for place in range(len(BLOCKS))], axis=1)
    return np.array(BLOCKS, dtype=object)[shares.argmax(1)]


GENERATED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "generated_melting_point": melting_point,
    "generated_ionicity": ionicity,
    "generated_size_mismatch": size_mismatch,
    "generated_thermal_conductivity": thermal_conductivity,
    "generated_debye_temperature": debye_temperature,
    "generated_heat_capacity": heat_capacity,
    "generated_block": block,
}
"""Name of a label -> what makes it of atomic fractions (B, Z)."""


def generated_labels(name: str, formulas: Sequence[str]) -> np.ndarray:
    """Return generated labels of some formulas, (B,), or (B, 30) for a curve.

    Raises:
        InputError: A formula cannot be read.
    """
    return GENERATED[name](weights(formulas))
