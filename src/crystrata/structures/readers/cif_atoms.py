"""The atoms of the cell that symmetry operations make of the listed sites. G operations, M sites, N atoms."""

from __future__ import annotations

import numpy as np

from crystrata.structures.crystal import CrystalError
from crystrata.structures.readers.checks import MAX_ATOMS, check_atom_count

SITE_TOLERANCE = 0.05  # [A] images this close are one atom whose digits were cut (0.3333), put on its symmetry element
METRIC_TOLERANCE = 0.02  # relative: 1% of a length, one degree


def check_metric(cell: np.ndarray, rotations: np.ndarray) -> None:
    """Refuse a cell (3, 3) [A] that the rotations (G, 3, 3) do not leave unchanged: `bad_symmetry`."""
    metric = cell @ cell.T
    turned = np.einsum("gji,jk,gkl->gil", rotations, metric, rotations)
    scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    if (np.abs(turned - metric) / scale).max() > METRIC_TOLERANCE:
        raise CrystalError("bad_symmetry", "the cell does not have the stated symmetry; export the cell as P1")


def expand(
    cell: np.ndarray, sites: np.ndarray, rotations: np.ndarray, translations: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Apply all operations to all sites.

    A site within `SITE_TOLERANCE` of a symmetry element is moved onto it (the mean of its coinciding images); every
    other one keeps all its digits.

    Args:
        cell: Lattice vectors as rows, (3, 3) [A].
        sites: Fractional coordinates of the listed sites, (M, 3).
        rotations: (G, 3, 3).
        translations: (G, 3).

    Returns:
        Fractional coordinates (N, 3) in [0, 1) and, for each atom, the index of its site (N,).

    Raises:
        CrystalError: `too_large`, or `bad_symmetry` if the operations form no group.
    """
    # At most 48 operations leave a site where it is, so this many images make too many atoms for certain.
    if len(sites) * len(rotations) > 48 * MAX_ATOMS:
        raise CrystalError("too_large", f"more than {MAX_ATOMS} atoms in the cell; give a smaller (primitive) cell")
    atoms: list[np.ndarray] = []
    owners: list[int] = []
    for index, site in enumerate(sites):
        shifts = rotations @ site + translations - site  # (G, 3)
        shifts -= np.round(shifts)
        same = np.linalg.norm(shifts @ cell, axis=1) < SITE_TOLERANCE
        if not same.any():
            raise CrystalError("bad_symmetry", "the identity x,y,z is no listed operation; export the cell as P1")
        images = rotations @ (site + shifts[same].mean(axis=0)) + translations
        distinct = _distinct(images - np.floor(images), cell)
        if len(distinct) * same.sum() != len(rotations):
            raise CrystalError("bad_symmetry", "the listed operations form no group; export the cell as P1")
        atoms.extend(distinct)
        owners.extend([index] * len(distinct))
        check_atom_count(len(atoms))
    return np.array(atoms).reshape(-1, 3), np.array(owners, dtype=np.int64)


def _distinct(images: np.ndarray, cell: np.ndarray) -> list[np.ndarray]:
    """Return the images (G, 3) that are no repetition of an earlier one."""
    kept = []
    while len(images):
        kept.append(images[0])
        apart = images - images[0]
        apart -= np.round(apart)
        images = images[np.linalg.norm(apart @ cell, axis=1) >= SITE_TOLERANCE]
    return kept
