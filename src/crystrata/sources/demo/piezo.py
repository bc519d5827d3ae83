"""The piezoelectric label: point charges on the bonds and isotropic elasticity; zero by symmetry where it must be."""

from __future__ import annotations

import numpy as np

from crystrata.sources.demo.bonds import Bonds

_CHARGE_PER_AREA = 16.0218  # [C/m^2] of one electron per A^2
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def largest_piezoelectric_coefficient(
    bonds: Bonds, ionicity: np.ndarray, volume: float, bulk: float, shear: float
) -> float:
    """Return the largest |d_ij| in Voigt's notation [pC/N].

    Under strain each bond u of length d carries the dipole q d u u u (R. M. Martin, Phys. Rev. B 5, 1607 (1972), point
    charges), q the valence per bond times the ionicity, from the electropositive to the electronegative atom. The sum
    over bonds is odd, hence zero under inversion. d = e s with the compliance of an isotropic solid (J. F. Nye,
    Physical Properties of Crystals, ch. 7, 8).

    Args:
        bonds: Bonds of the crystal.
        ionicity: Ionicity of each bond, (E,).
        volume: Cell volume [A^3].
        bulk: Bulk modulus [GPa].
        shear: Shear modulus [GPa].
    """
    electronegativity = bonds.of_atoms("electronegativity")
    per_bond = bonds.of_atoms("valence") / bonds.coordination
    sign = np.tanh((electronegativity[bonds.centre] - electronegativity[bonds.neighbour]) / 0.1)
    charge = sign * ionicity * (per_bond[bonds.centre] + per_bond[bonds.neighbour]) / 2
    dipole = bonds.weight * charge * bonds.length
    # Half, because each bond is listed from both ends.
    stress = 0.5 * np.einsum("e,ei,ej,ek->ijk", dipole, *[bonds.direction] * 3) * _CHARGE_PER_AREA / volume
    voigt = np.stack([stress[:, j, k] for j, k in _VOIGT], axis=1)  # e_iJ, (3, 6) [C/m^2]
    return float(np.abs(voigt @ _isotropic_compliance(bulk, shear)).max() * 1000)


def _isotropic_compliance(bulk: float, shear: float) -> np.ndarray:
    """Return the compliance matrix of an isotropic solid, (6, 6) [1/GPa]."""
    young = 9 * bulk * shear / (3 * bulk + shear)
    compliance = np.zeros((6, 6))
    compliance[:3, :3] = (1 - young / (2 * shear)) / young  # -poisson / young
    np.fill_diagonal(compliance, [1 / young] * 3 + [1 / shear] * 3)
    return compliance
