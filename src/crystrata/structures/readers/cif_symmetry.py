"""Symmetry of a CIF: the operations that it lists or names, and the atoms that they make of the listed sites.

G operations, M sites, N atoms.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

from crystrata.structures.crystal import CrystalError
from crystrata.structures.readers.checks import MAX_ATOMS, check_atom_count
from crystrata.structures.readers.cif_blocks import Tags

MAX_SYMMETRY_OPERATIONS = 1_000  # a conventional cell has 192 at most; supercells of cubic groups a few more
SITE_TOLERANCE = 0.05  # [A] images this close are one atom whose digits were cut (0.3333), put on its symmetry element
METRIC_TOLERANCE = 0.02  # relative: 1% of a length, one degree

_TERM = re.compile(r"([+-]?)(?:(\d+\.?\d*|\.\d+)(?:/(\d+))?)?\*?([xyz]?)")
_TWO_ORIGINS = frozenset(
    "Pnnn Pban Pmmn Ccca Ccce Fddd P4/n P42/n I41/a P4/nbm P4/nnc P4/nmm P4/ncc P42/nbc P42/nnm P42/nmc P42/ncm "
    "I41/amd I41/acd Pn-3 Pn3 Fd-3 Fd3 Pn-3n Pn3n Pn-3m Pn3m Fd-3m Fd3m Fd-3c Fd3c "
    "48 50 59 68 70 85 86 88 125 126 129 130 133 134 137 138 141 142 201 203 222 224 227 228".split()
)


def operations(tags: Tags) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rotations (G, 3, 3) and translations (G, 3) that act on fractional coordinates (columns).

    Listed operations win; else the name or number of the space group; a file that states neither is P1.

    Raises:
        CrystalError: `too_many_symmetry_operations`, or `bad_symmetry` for operations or names that are none.
    """
    listed = tags.get("_space_group_symop_operation_xyz") or tags.get("_symmetry_equiv_pos_as_xyz")
    if listed and tags.text("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz"):
        if len(listed) > MAX_SYMMETRY_OPERATIONS:
            raise CrystalError(
                "too_many_symmetry_operations",
                f"{len(listed)} symmetry operations; at most {MAX_SYMMETRY_OPERATIONS} are read: export the cell as P1",
            )
        parsed = [_parse_operation(text) for text in listed]
        rotations, translations = np.array([p[0] for p in parsed]), np.array([p[1] for p in parsed])
    else:
        rotations, translations = _named_operations(tags)
    rows = np.concatenate([rotations.reshape(-1, 9), translations - np.floor(translations + 1e-4)], axis=1)
    _, first = np.unique(rows.round(4), axis=0, return_index=True)
    first = np.sort(first)
    return rotations[first], translations[first]


def _parse_operation(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Parse `-y, x-y, z+1/3`."""
    rotation, translation = np.zeros((3, 3)), np.zeros(3)
    parts = re.sub(r"\s", "", text).lower().split(",")
    for row, part in enumerate(parts[:3]):
        position = 0
        while position < len(part):
            match = _TERM.match(part, position)
            if not match or not (match[2] or match[4]) or (position and not match[1]) or match[3] == "0":
                break
            value = float(match[2] or 1) / float(match[3] or 1) * (-1 if match[1] == "-" else 1)
            if match[4]:
                rotation[row, "xyz".index(match[4])] += value
            else:
                translation[row] += value
            position = match.end()
        if position < len(part):
            break
    else:
        if len(parts) == 3 and abs(abs(np.linalg.det(rotation)) - 1) < 1e-6:
            return rotation, translation
    raise CrystalError("bad_symmetry", f"{text!r} is no symmetry operation; export the cell with all atoms, as P1")


def _named_operations(tags: Tags) -> tuple[np.ndarray, np.ndarray]:
    """Look up the space group that is only named."""
    name = tags.text(
        "_symmetry_space_group_name_h-m", "_space_group_name_h-m_alt", "_space_group_name_h-m_full",
        "_symmetry_space_group_name_hall", "_space_group_name_hall",
    )  # fmt: skip
    group = name or tags.text("_space_group_it_number", "_symmetry_int_tables_number")
    if group is None:
        return np.eye(3)[None], np.zeros((1, 3))
    if re.sub(r"[\s_]", "", group) in _TWO_ORIGINS:
        raise CrystalError(
            "bad_symmetry", f"space group {group!r} has two origins and the file lists no operations; export it as P1"
        )
    found = _known_group(group, by_name=name is not None)
    if not found:
        raise CrystalError(
            "bad_symmetry", f"the setting {group!r} is not known and the file lists no operations; export it as P1"
        )
    return np.array([op.rotation_matrix for op in found]), np.array([op.translation_vector for op in found])


def _known_group(group: str, *, by_name: bool) -> list[Any]:
    """Return pymatgen's operations of a space group, or an empty list if it does not know the name."""
    from pymatgen.io.cif import CifBlock, CifParser
    from pymatgen.symmetry.groups import SpaceGroup

    if by_name and re.sub(r"\s", "", group) == "P1":
        return [*SpaceGroup("P1").symmetry_ops]
    tag = "_symmetry_space_group_name_H-M" if by_name else "_space_group_IT_number"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parser = CifParser.from_str("data_name\n_audit_creation_method name\n")
        found = parser.get_symops(CifBlock({tag: group}, [], "name"))
        if not any("Defaulting to P1" in str(warning.message) for warning in caught):
            return list(found)
        try:  # pymatgen writes screw axes as 2_1
            return [*SpaceGroup(re.sub(r"(^|\s)([2346])([1-5])(?=/|\s|$)", r"\1\2_\3", group)).symmetry_ops]
        except ValueError:
            return []


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
