"""Structures as data: JSON of pymatgen, ASE and JARVIS, and ASE databases (SQLite). N atoms.

Plain data only: no class named in a file is ever made. Databases are opened so that nothing is ever written; ASE itself
would add tables to a foreign file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from crystrata.elements import SYMBOLS
from crystrata.structures.crystal import Crystal, CrystalError, Rejected
from crystrata.structures.readers.disorder import is_full, majority_species, note_of
from crystrata.structures.readers.structure_file import (
    ADVICE,
    StructureFile,
    attempt,
    check_atom_count,
    check_periodic,
    checked_crystal,
    element_number,
    fractional,
)

ID_KEYS = ("jid", "material_id", "id", "name")
STRUCTURE_KEYS = ("atoms", "structure")

Form = dict[str, Any]


def read_json(source: StructureFile) -> Iterator[Crystal | Rejected]:
    """Yield every structure of a JSON file, in its order; a CrystalError if it is no JSON, or of something else.

    A stated id (`jid`, `material_id`, ...) names the crystal; else the file does, with `#k` if there are several.
    """
    try:
        data = json.loads(source.text())
    except (json.JSONDecodeError, RecursionError) as error:
        raise CrystalError("unreadable", f"it is no JSON ({error}); {ADVICE}") from None
    entries = list(_entries(data))
    for index, (given, form) in enumerate(entries):
        if given is not None and not given.startswith("#"):
            id = given
        else:
            id = source.stem if len(entries) == 1 else source.stem + (given or f"#{index}")
        yield attempt(id, partial(crystal_of_form, id, form, source.majority_species))


def _entries(data: Any) -> Iterator[tuple[str | None, Any]]:
    """Yield (id or None, form); an id with `#` first is a suffix to the file's name."""
    if isinstance(data, list):
        for record in data:
            yield _entry(record)
    elif isinstance(data, dict) and isinstance(data.get("ids"), list) and "nextid" in data:  # a JSON database of ASE
        for id in data["ids"]:
            yield f"#{id}", data.get(str(id))
    elif isinstance(data, dict):
        yield None, _entry(data)[1]
    else:
        yield None, data


def _entry(record: Any) -> tuple[str | None, Any]:
    """Split a record such as {"jid": ..., "atoms": {...}} into its id and its structure."""
    if not isinstance(record, dict):
        return None, record
    given = next((str(record[key]) for key in ID_KEYS if isinstance(record.get(key), str | int)), None)
    nested = next((record[key] for key in STRUCTURE_KEYS if isinstance(record.get(key), dict)), record)
    return given, nested


def crystal_of_form(id: str, form: Any, majority: bool) -> Crystal:
    """Return the crystal of plain values as pymatgen, ASE or JARVIS writes them; a CrystalError if it is unusable."""
    for keys, read in _FORMS:
        if isinstance(form, dict) and all(key in form for key in keys):
            if majority and read is _from_pymatgen:
                form, choices = _ordered(form)
                return replace(read(id, form), note=note_of(choices))
            return read(id, form)
    raise CrystalError(
        "no_structure", "it holds no structure of pymatgen (Structure.as_dict), ASE or JARVIS (Atoms.to_dict)"
    )


def _from_pymatgen(id: str, form: Form) -> Crystal:
    """Read `Structure.as_dict()`; classes named inside ("@module") are ignored."""
    lattice, sites = form["lattice"], form["sites"]
    check_periodic(lattice.get("pbc", True))
    check_atom_count(len(sites))
    numbers = []
    for site in sites:
        species = site["species"]
        if len(species) != 1 or not is_full(float(species[0].get("occu", 1))):
            raise CrystalError(
                "disordered",
                f"the site {site.get('label', '?')!r} is partly occupied or mixed; give an ordered model with full "
                "sites, or take --majority-species",
            )
        numbers.append(element_number(str(species[0]["element"])))
    cell = np.array(lattice["matrix"], dtype=np.float64)
    if all("abc" in site for site in sites):
        return checked_crystal(id, cell, numbers, [site["abc"] for site in sites])
    return checked_crystal(id, cell, numbers, fractional(cell, [site["xyz"] for site in sites]))


def _ordered(form: Form) -> tuple[Form, list[str]]:
    """Return the form of pymatgen with one full species on every site, and the choices in words."""
    check_atom_count(len(form["sites"]))
    sites, choices = [], []
    for site in form["sites"]:
        shares = [(element_number(str(one["element"])), float(one.get("occu", 1))) for one in site["species"]]
        if len(shares) != 1 or not is_full(shares[0][1]):
            number, words = majority_species(str(site.get("label", "?")), shares)
            choices.append(words)
            if number is None:
                continue
            site = {**site, "species": [{"element": SYMBOLS[number - 1]}]}
        sites.append(site)
    return {**form, "sites": sites}, choices


def _from_ase(id: str, form: Form) -> Crystal:
    """Read a row of ASE's JSON database, or `Atoms.todict()`."""
    check_periodic(_array(form.get("pbc", True)))
    cell = _array(form["cell"]).astype(np.float64).reshape(3, 3)
    return checked_crystal(id, cell, _array(form["numbers"]), fractional(cell, _array(form["positions"])))


def _from_jarvis(id: str, form: Form) -> Crystal:
    """Read `Atoms.to_dict()` of jarvis-tools."""
    cell = np.array(form["lattice_mat"], dtype=np.float64)
    check_atom_count(len(form["elements"]))
    numbers = [element_number(str(symbol).strip()) for symbol in form["elements"]]
    coordinates = np.array(form["coords"], dtype=np.float64)
    return checked_crystal(id, cell, numbers, fractional(cell, coordinates) if form.get("cartesian") else coordinates)


def _array(value: Any) -> np.ndarray:
    """Return an array from ASE's encoding {"__ndarray__": [shape, dtype, flat]}, {"array": ...}, or plain lists."""
    if isinstance(value, dict) and "__ndarray__" in value:
        shape, _, flat = value["__ndarray__"]
        return np.array(flat).reshape(shape)
    return _array(value["array"]) if isinstance(value, dict) else np.array(value)


_FORMS: tuple[tuple[tuple[str, ...], Callable[[str, Form], Crystal]], ...] = (
    (("lattice", "sites"), _from_pymatgen),
    (("lattice_mat", "coords", "elements"), _from_jarvis),
    (("numbers", "positions", "cell"), _from_ase),
)
"""Keys that tell a form -> its reader."""


def read_ase_db(source: StructureFile) -> Iterator[Crystal | Rejected]:
    """Yield every row in the order of its database id; ids are `name#<database id>`, or the name for a single row.

    A CrystalError: `unreadable` for no SQLite file, `no_structure` for one that is no ASE database.
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
