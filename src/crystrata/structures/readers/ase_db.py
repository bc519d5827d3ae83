"""ASE databases (SQLite), opened so that nothing is ever written: ASE itself would add tables to a foreign file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np

from crystrata.structures.crystal import Crystal, CrystalError, Rejected
from crystrata.structures.readers.checks import attempt, check_atom_count, check_periodic, checked_crystal, fractional
from crystrata.structures.readers.source import StructureFile


def read_ase_db(source: StructureFile) -> Iterator[Crystal | Rejected]:
    """Yield every row in the order of its database id; ids are `name#<database id>`, or the name for a single row.

    Raises:
        CrystalError: `unreadable` for no SQLite file, `no_structure` for one that is no ASE database.
    """
    try:
        with closing(_connect(source)) as database:
            kind = database.execute("SELECT type FROM sqlite_master WHERE name = 'systems'").fetchone()
            if kind != ("table",):  # a view could run forever
                raise CrystalError("no_structure", "it is no ASE database: there is no table 'systems'")
            single = len(database.execute("SELECT id FROM systems LIMIT 2").fetchall()) == 1
            for row in database.execute("SELECT id, numbers, positions, cell, pbc FROM systems ORDER BY id"):
                id = source.stem if single else f"{source.stem}#{row[0]}"
                yield attempt(id, partial(_crystal, id, *row[1:]))
    except sqlite3.Error as error:
        raise CrystalError("unreadable", f"it is no whole ASE database ({error}); write it again with ase.db") from None


def _connect(source: StructureFile) -> sqlite3.Connection:
    if source.path is not None and not source.compressed:
        database = sqlite3.connect(f"{source.path.resolve().as_uri()}?mode=ro", uri=True)
    else:
        database = sqlite3.connect(":memory:")
        database.deserialize(source.content())
    database.execute("PRAGMA trusted_schema = OFF")
    return database


def _crystal(id: str, numbers: Any, positions: Any, cell: Any, pbc: Any) -> Crystal:
    """Make a crystal from blobs: little-endian int32 numbers (N,), float64 positions (N, 3) [A] and cell (3, 3) [A]."""
    check_atom_count(len(numbers) // 4)
    if int(pbc) != 7:
        check_periodic(False)
    lattice = np.frombuffer(cell, dtype="<f8").reshape(3, 3)
    cartesian = np.frombuffer(positions, dtype="<f8").reshape(-1, 3)
    return checked_crystal(id, lattice, np.frombuffer(numbers, dtype="<i4"), fractional(lattice, cartesian))
