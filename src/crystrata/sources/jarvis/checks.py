"""Which rows of the compact form are usable, and the digest of the crystals. R rows, B usable crystals."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

from crystrata.elements import MAX_ATOMIC_NUMBER
from crystrata.sources.jarvis.compact import CompactColumns
from crystrata.sources.jarvis.containers import damaged
from crystrata.structures.crystal import MIN_VOLUME_PER_ATOM, Crystal, CrystalError, Rejected

MAX_REPEATED_SHARE = 0.01  # the official 2021 release repeats 11 of its 55,712 ids
_DIGEST_VERSION = b"crystals 1\n"


def repeated(path: Path, ids: list[str | None]) -> list[int]:
    """Return the rows whose id stood in an earlier row; a DataError if these are more than a stray few."""
    seen: set[str] = set()
    rows = []
    for row, id in enumerate(ids):
        if id is None:
            continue
        if id in seen:
            rows.append(row)
        seen.add(id)
    if len(rows) > MAX_REPEATED_SHARE * len(ids):
        times = Counter(ids)
        named = ", ".join(f"{ids[row]} ({times[ids[row]]} times)" for row in rows[:3])
        raise damaged(path, f"repeats {len(rows)} of {len(ids)} jids, such as {named}; each may stand there once")
    return rows


def unusable_rows(path: Path, columns: CompactColumns) -> dict[int, Rejected]:
    """Return row -> rejection for every row that makes no crystal; a DataError if too many ids repeat.

    Suspects are found on whole columns; `Crystal.create` alone decides.
    """
    rejected: dict[int, Rejected] = {}
    starts = [np.cumsum(column.lengths) - column.lengths for column in (columns.lattice, columns.numbers, columns.frac)]
    for row in np.flatnonzero(_suspects(columns)).tolist():
        parts = [
            column.values[start[row] : start[row] + column.lengths[row]]
            for column, start in zip((columns.lattice, columns.numbers, columns.frac), starts, strict=True)
        ]
        name = columns.ids[row] or f"row {row}"
        try:
            Crystal.create(name, *parts)
        except CrystalError as error:
            rejected[row] = Rejected(name, error.code, str(error))
    for row, id in enumerate(columns.ids):
        if not id:
            rejected[row] = Rejected(f"row {row}", "no_id", "the row has no jid")
    for row in repeated(path, columns.ids):
        rejected[row] = Rejected(str(columns.ids[row]), "repeated_id", f"row {row} repeats the id of an earlier row")
    return rejected


def _suspects(columns: CompactColumns) -> np.ndarray:
    lattice, numbers, frac = columns.lattice, columns.numbers, columns.frac
    suspect = (lattice.lengths != 9) | (numbers.lengths == 0) | (frac.lengths != 3 * numbers.lengths)
    suspect[lattice.rows()[~np.isfinite(lattice.values)]] = True
    suspect[frac.rows()[~np.isfinite(frac.values)]] = True
    suspect[numbers.rows()[(numbers.values < 1) | (numbers.values > MAX_ATOMIC_NUMBER)]] = True
    sound = ~suspect
    cells = lattice.values[np.repeat(sound, lattice.lengths)].reshape(-1, 3, 3)
    volumes = np.abs(np.linalg.det(cells)) / numbers.lengths[sound]
    suspect[np.flatnonzero(sound)[volumes < 1.001 * MIN_VOLUME_PER_ATOM]] = True
    found: np.ndarray = suspect
    return found


def crystals_digest(columns: CompactColumns, keep: np.ndarray) -> str:
    """Return the SHA-256 over all that makes the usable crystals (keep, (R,) bool), without labels: 0.05 s for the 2021
    release."""
    digest = hashlib.sha256(_DIGEST_VERSION)
    ids = [id for id, kept in zip(columns.ids, keep.tolist(), strict=True) if kept]
    digest.update("\n".join(map(str, ids)).encode() + b"\n")
    digest.update(columns.frame_given()[keep].astype("u1").tobytes())
    for column, kind in ((columns.lattice, "<f8"), (columns.numbers, "u1"), (columns.frac, "<f8")):
        digest.update(column.lengths[keep].astype("<i8").tobytes())
        digest.update(column.values[np.repeat(keep, column.lengths)].astype(kind).tobytes())
    return digest.hexdigest()
