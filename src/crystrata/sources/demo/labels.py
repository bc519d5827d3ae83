"""Semi-empirical labels of a crystal from its bonds: textbook relations, smooth and free of noise; not DFT. E bonds."""

from __future__ import annotations

import numpy as np

from crystrata.sources.demo.bonds import Bonds, bonds_of
from crystrata.structures.crystal import Crystal

_GAP_ONSET = 4.3  # [eV] Penn gap at which the band edges meet: germanium's
_DECIMALS = 6


def labels_of(crystal: Crystal) -> dict[str, float]:
    """Return the labels that a crystal's own structure gives, by column of the JARVIS data.

    `formation_energy_peratom` is measured from bonds only; `open_demo` refers it to the elements and adds `ehull`.
    """
    bonds = bonds_of(crystal)
    homopolar, ionic = penn_gaps(bonds)
    penn = np.hypot(homopolar, ionic)
    ionicity = bonds.mean(ionic**2 / penn**2)
    metallic = metallic_share(bonds)
    gap = band_gap(bonds.mean(penn), metallic, charge_imbalance(bonds))
    bulk, shear = moduli(bonds, ionicity, metallic)
    dielectric = dielectric_diagonal(bonds, bonds.mean(penn), crystal.volume_per_atom)
    labels = {
        "formation_energy_peratom": bond_energy(bonds) + polymorph_energy(bonds, ionicity, metallic),
        "optb88vdw_bandgap": gap,
        # The meta-GGA opens a gap by about a quarter and half an electronvolt, once there is one.
        "mbj_bandgap": 1.25 * gap + 0.5 * (1 - np.exp(-gap / 0.3)),
        "bulk_modulus_kv": bulk,
        "shear_modulus_gv": shear,
        "epsx": dielectric[0],
        "epsy": dielectric[1],
        "epsz": dielectric[2],
        "dfpt_piezo_max_dij": largest_piezoelectric_coefficient(
            bonds, ionic**2 / penn**2, crystal.volume_per_atom * len(crystal), bulk, shear
        ),
        "spillage": spin_orbit_spillage(bonds, gap),
    }
    # Rounding makes zeros exact and the labels equal on every machine; + 0.0 turns -0.0 into 0.0.
    return {column: round(float(value), _DECIMALS) + 0.0 for column, value in labels.items()}


def penn_gaps(bonds: Bonds) -> tuple[np.ndarray, np.ndarray]:
    """Return the homopolar and the ionic part of the mean gap of each bond, (E,) each [eV].

    Homopolar: 39.74 d^-2.48 (J. A. Van Vechten, Phys. Rev. 182, 891 (1969)); ionic: proportional to the difference of
    electronegativities (J. C. Phillips, Rev. Mod. Phys. 42, 317 (1970)), 6 eV per Pauling unit (NaCl 13.4, GaAs 2.2).
    """
    electronegativity = bonds.of_atoms("electronegativity")
    difference = np.abs(electronegativity[bonds.centre] - electronegativity[bonds.neighbour])
    return 39.74 * bonds.length**-2.48, 6.0 * difference


def metallic_share(bonds: Bonds) -> float:
    """Return the share of bonds between two metals, 0 to 1."""
    metal = bonds.of_atoms("metal")
    return bonds.mean(metal[bonds.centre] * metal[bonds.neighbour])


def charge_imbalance(bonds: Bonds) -> float:
    """Return by how many electrons per atom the usual valences miss the octets (Grimm-Sommerfeld rule)."""
    electronegativity = bonds.of_atoms("electronegativity")
    takes = bonds.of_atoms("anion_valence") * (electronegativity > electronegativity.mean() + 1e-6)
    gives = np.array([atom.valences for atom in bonds.atoms], dtype=np.float64) * (takes == 0)[:, None]
    if not takes.any() and not bonds.of_atoms("metal").any():
        return 0.0
    low, high = gives.sum(axis=0)
    return float(max(0.0, low - takes.sum(), takes.sum() - high)) / len(bonds.atoms)


def band_gap(penn: float, metallic: float, imbalance: float) -> float:
    """Return the smallest gap [eV]: what the Penn gap leaves above the band widths; 0 for metals.

    Widths grow with metallic bonds and unbalanced charges (W. A. Harrison, Electronic Structure (1980), "metallicity").
    """
    return max(0.0, 0.55 * (penn - _GAP_ONSET - 14.0 * metallic - 8.0 * imbalance))


def bond_energy(bonds: Bonds) -> float:
    """Return Pauling's heat of formation [eV/atom].

    One bond gains the square of the electronegativity difference in eV; each atom makes `valence` bonds, spread over
    its neighbours. The multiple bonds of N2 and O2 are lost: 2.40 and 1.05 eV an atom (L. Pauling, The Nature of the
    Chemical Bond, 3rd ed., ch. 3).
    """
    electronegativity = bonds.of_atoms("electronegativity")
    gain = bonds.weight * (electronegativity[bonds.centre] - electronegativity[bonds.neighbour]) ** 2
    per_bond = np.bincount(bonds.centre, gain, len(bonds.atoms)) / bonds.coordination
    numbers = bonds.of_atoms("number")
    lost = 2.40 * (numbers == 7) + 1.05 * (numbers == 8)
    polar = 1 - np.exp(-per_bond)  # an atom among its like breaks no foreign molecule
    return float(np.mean(-0.5 * bonds.of_atoms("valence") * per_bond + lost * polar))


def polymorph_energy(bonds: Bonds, ionicity: float, metallic: float) -> float:
    """Return the energy [eV/atom] of a structure that does not suit its bonds; not negative.

    Coordination: four for covalent bonds, six above Phillips's ionicity of about 0.785, eight for large ions, twelve
    for metals. Size: unequal ratios of bond length to summed radii, Goldschmidt's tolerance as a harmonic energy.
    """
    pair = np.sqrt(bonds.coordination[bonds.centre] * bonds.coordination[bonds.neighbour])
    polar = 4.0 + 2.0 * _step((ionicity - 0.75) / 0.05) + 2.0 * _step((bonds.mean(bonds.length) - 3.3) / 0.15)
    preferred = (1 - metallic) * polar + metallic * 12.0
    radius = bonds.of_atoms("radius")
    ratio = bonds.length / (radius[bonds.centre] + radius[bonds.neighbour])
    mismatch = bonds.mean((ratio / bonds.mean(ratio) - 1) ** 2)
    return 0.6 * bonds.mean(np.log(pair / preferred) ** 2) + 5.0 * mismatch


def moduli(bonds: Bonds, ionicity: float, metallic: float) -> tuple[float, float]:
    """Return the bulk and the shear modulus [GPa].

    Bulk: (1972 - 220 I) d^-3.5 N / 4 with the mean coordination N (M. L. Cohen, Phys. Rev. B 32, 7988 (1985)), I
    running from 0 (group IV) to 3 (I-VII); less for atoms with few bonding electrons. Shear: isotropic elasticity,
    with Poisson's ratio from 0.10 (diamond) to 0.25 (salts) and 0.32 (metals).
    """
    electrons = float(np.mean(bonds.of_atoms("valence")))
    cohen = (1972 - 220 * 3 * ionicity) * bonds.mean(bonds.length**-3.5) * float(bonds.coordination.mean()) / 4
    bulk = cohen * np.tanh(electrons / 2) / np.tanh(2)
    poisson = 0.10 + 0.15 * ionicity + 0.22 * metallic * (1 - ionicity)
    return bulk, bulk * 3 * (1 - 2 * poisson) / (2 * (1 + poisson))


def dielectric_diagonal(bonds: Bonds, penn: float, volume_per_atom: float) -> np.ndarray:
    """Return the diagonal of the electronic dielectric tensor, (3,).

    1 + (h wp / Eg)^2 (D. R. Penn, Phys. Rev. 128, 2093 (1962)) with the plasma energy of the valence electrons and the
    gap of the bonds, bounded at 200 for metals; half of it follows the directions of the bonds.
    """
    density = float(np.mean(bonds.of_atoms("outer_electrons"))) / volume_per_atom  # [electrons/A^3]
    plasma_squared = 1378.6 * density  # [eV^2]
    response = plasma_squared / penn**2
    response /= 1 + response / 200
    share = np.array([bonds.mean(bonds.direction[:, axis] ** 2) for axis in range(3)])
    return np.asarray(1 + response * (0.5 + 1.5 * share))


def spin_orbit_spillage(bonds: Bonds, gap: float) -> float:
    """Return a spin-orbit spillage, 0 to 4: the coupling, Z^2 (Landau and Lifshitz), against gap and band width."""
    coupling = float(np.mean((bonds.of_atoms("number") / 60) ** 2))
    return 4 * coupling / (coupling + 2 + 4 * gap)


def _step(value: float) -> float:
    return float(0.5 * (1 + np.tanh(value)))


_CHARGE_PER_AREA = 16.0218  # [C/m^2] of one electron per A^2
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def largest_piezoelectric_coefficient(
    bonds: Bonds, ionicity: np.ndarray, volume: float, bulk: float, shear: float
) -> float:
    """Return the largest |d_ij| in Voigt's notation [pC/N], from ionicities (E,), cell volume [A^3] and moduli [GPa].

    Under strain each bond u of length d carries the dipole q d u u u (R. M. Martin, Phys. Rev. B 5, 1607 (1972), point
    charges), q the valence per bond times the ionicity, from the electropositive to the electronegative atom. The sum
    over bonds is odd, hence zero under inversion. d = e s with the compliance of an isotropic solid (J. F. Nye,
    Physical Properties of Crystals, ch. 7, 8).
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
