"""Symmetry of a CIF: the operations that it lists or names, and the atoms that they make of the listed sites.

gemmi knows the settings of the space groups. Where a name leaves two origins it takes the first; that is refused here.
G operations, M sites, N atoms.
"""

from __future__ import annotations

import re
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache

import gemmi
import numpy as np

from crystrata.structures.crystal import CrystalError
from crystrata.structures.readers.cif_blocks import Tags
from crystrata.structures.readers.structure_file import MAX_ATOMS, check_atom_count

MAX_SYMMETRY_OPERATIONS = 1_000  # a conventional cell has 192 at most; supercells of cubic groups a few more
SITE_TOLERANCE = 0.05  # [A] images this close are one atom whose digits were cut (0.3333), put on its symmetry element
METRIC_TOLERANCE = 0.02  # relative: 1% of a length, one degree

_OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_NAMES = ("_symmetry_space_group_name_h-m", "_space_group_name_h-m_alt", "_space_group_name_h-m_full")
_HALL_SYMBOLS = ("_symmetry_space_group_name_hall", "_space_group_name_hall")
_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")

_NUMBER = r"\d+/\d+|\d+\.?\d*|\.\d+"
_TERM = re.compile(rf"(?:^|(?=[+-]))([+-]?)(?=[\d.xyz])({_NUMBER})?(?:\*?([xyz]))?(?=[+-]|$)")  # of -y, x-y, 5x, z+1/3


def operations(tags: Tags, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rotations (G, 3, 3) and translations (G, 3) that act on fractional coordinates (columns).

    Listed operations win; else the name, Hall symbol or number of the space group; a file that states nothing is P1. A
    CrystalError `too_many_symmetry_operations`, or `bad_symmetry` where they are not valid or do not fit the cell,
    whose vectors are rows (3, 3) [A].
    """
    listed = tags.get(_OPERATIONS[0]) or tags.get(_OPERATIONS[1])
    if listed and tags.text(*_OPERATIONS):
        if len(listed) > MAX_SYMMETRY_OPERATIONS:
            raise CrystalError(
                "too_many_symmetry_operations",
                f"{len(listed)} symmetry operations; at most {MAX_SYMMETRY_OPERATIONS} are read: export the cell as P1",
            )
        matrices = _listed(listed)
    else:
        group = _named_group(tags, cell)
        matrices = np.array([op.float_seitz()[:3] for op in group.operations()]) if group else np.eye(4)[None, :3]
    _check_metric(cell, matrices[:, :, :3])
    return matrices[:, :, :3], matrices[:, :, 3]


def _listed(texts: list[str]) -> np.ndarray:
    """Return the distinct rotations and translations (G, 3, 4) of operations such as `-y, x-y, z+1/3`."""
    found: dict[tuple[tuple[float, ...], ...], str] = {}
    for text in texts:
        rows: tuple[tuple[float, ...], ...] = ()
        with suppress(ValueError, ArithmeticError):
            rows = tuple(_row(part) for part in "".join(text.lower().split()).split(","))
        if len(rows) != 3:
            raise _not_an_operation(text, "it is not of the form x+1/2, -y, z")
        found.setdefault(rows, text)
    matrices = np.array(list(found))
    changes = np.abs(np.abs(np.linalg.det(matrices[:, :, :3])) - 1)
    if changes.max() > 1e-6:
        raise _not_an_operation(list(found.values())[changes.argmax()], "it changes the volume")
    return matrices


@lru_cache(maxsize=1_000)  # files have few different ones
def _row(part: str) -> tuple[float, ...]:
    """Return the factors of x, y, z and the shift, 0 to 1, of one part of an operation.

    gemmi's parser knows fractions of 24 only; supercells have `5x-y` and `z+1/5`.
    """
    row = dict.fromkeys(("x", "y", "z", ""), Fraction())
    for sign, value, letter in _TERM.findall(part):
        row[letter] += Fraction(sign + (value or "1"))
    if _TERM.sub("", part):
        raise ValueError(f"unexpected text in {part!r}")
    row[""] %= 1
    return tuple(map(float, row.values()))


def _not_an_operation(text: str, why: str) -> CrystalError:
    return CrystalError(
        "bad_symmetry", f"{text!r} is not a symmetry operation ({why}); export the cell with all atoms, as P1"
    )


def _named_group(tags: Tags, cell: np.ndarray) -> gemmi.SpaceGroup | None:
    """Return the space group that is named, in the stated setting, or None; `bad_symmetry` where unclear."""
    hall, name, index = (tags.text(*names) for names in (_HALL_SYMBOLS, _NAMES, _NUMBERS))
    found: dict[str, gemmi.SpaceGroup | None] = {}
    # Of the two settings of a rhombohedral group, the angles tell which one it is.
    a, b, c = cell / np.linalg.norm(cell, axis=1, keepdims=True)
    alpha, gamma = np.degrees(np.arccos([b @ c, a @ b]))
    for text in filter(None, (name, index)):
        found[text] = gemmi.find_spacegroup_by_name(text.replace("_", ""), alpha, gamma)
    if hall:
        words = hall.replace("_", " ").lower().split()
        found[hall] = next((g for g in gemmi.spacegroup_table() if g.hall.lower().split() == words), None)
    stated = hall or name or index
    group = found[stated] if stated else None
    unknown = [text for text, one in found.items() if not one]
    if unknown:
        why = f"the setting {unknown[0]!r} is not known"
    elif len({one.number for one in found.values() if one}) > 1:
        why = f"{' and '.join(map(repr, found))} are different space groups"
    elif group and group.ext in ("1", "2") and not hall and ":" not in str(stated):
        why = f"space group {stated!r} has two origins (write '{group.hm}:1' or '{group.hm}:2')"
    else:
        return group
    raise CrystalError("bad_symmetry", f"{why} and the file lists no operations; export it as P1")


def _check_metric(cell: np.ndarray, rotations: np.ndarray) -> None:
    """Refuse a cell (3, 3) [A] that the rotations (G, 3, 3) do not leave unchanged: `bad_symmetry`."""
    metric = cell @ cell.T
    turned = rotations.transpose(0, 2, 1) @ metric @ rotations
    scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    if (np.abs(turned - metric) / scale).max() > METRIC_TOLERANCE:
        raise CrystalError("bad_symmetry", "the cell does not have the stated symmetry; export the cell as P1")


def expand(
    cell: np.ndarray, sites: np.ndarray, rotations: np.ndarray, translations: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Apply all operations (G, 3, 3) and (G, 3) to all sites (M, 3) of a cell with vectors as rows (3, 3) [A].

    A site within `SITE_TOLERANCE` of a symmetry element is moved onto it (the mean of its coinciding images); every
    other one keeps all its digits. Returns fractional coordinates (N, 3) in [0, 1) and, for each atom, the index of its
    site (N,). A CrystalError `too_large`, or `bad_symmetry` if the operations form no group.
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
            raise CrystalError("bad_symmetry", "the identity x,y,z is not listed; export the cell as P1")
        images = rotations @ (site + shifts[same].mean(axis=0)) + translations
        distinct = _distinct(images - np.floor(images), cell)
        if len(distinct) * same.sum() != len(rotations):
            raise CrystalError("bad_symmetry", "the listed operations form no group; export the cell as P1")
        atoms.extend(distinct)
        owners.extend([index] * len(distinct))
        check_atom_count(len(atoms))
    return np.array(atoms).reshape(-1, 3), np.array(owners, dtype=np.int64)


def _distinct(images: np.ndarray, cell: np.ndarray) -> list[np.ndarray]:
    """Return the images (G, 3) that do not repeat an earlier one."""
    kept = []
    while len(images):
        kept.append(images[0])
        apart = images - images[0]
        apart -= np.round(apart)
        images = images[np.linalg.norm(apart @ cell, axis=1) >= SITE_TOLERANCE]
    return kept
