"""JARVIS record files: one JSON list of records, read record by record."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from crystrata.elements import atomic_number
from crystrata.errors import InputError
from crystrata.sources.jarvis.containers import damaged, text_pieces
from crystrata.structures.crystal import Crystal, CrystalError

MAX_RECORD_CHARACTERS = 32 << 20  # the largest record of a release has some 100 kB
REQUIRED_KEYS = ("jid", "atoms")
REQUIRED_ATOMS_KEYS = ("lattice_mat", "coords", "elements")

_MISSING = frozenset(("", "na", "n/a", "nan", "none", "null"))
_SPACE = re.compile(r"[ \t\r\n]*")


class _Text:
    """JSON text that is read on as it is used up."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces, self._text, self._at = pieces, "", 0
        self._decode = json.JSONDecoder().raw_decode

    def _read_on(self) -> bool:
        piece = next(self._pieces, None)
        self._text, self._at = self._text[self._at :] + (piece or ""), 0
        return piece is not None

    def peek(self) -> str:
        """Return the next character that is no space, or an empty string at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def skip(self) -> None:
        self._at += 1

    def value(self) -> Any:
        """Return the next JSON value; a ValueError means that it is no JSON or ends too early."""
        self.peek()  # the decoder takes no leading space
        while True:
            try:
                value, self._at = self._decode(self._text, self._at)
                return value
            except json.JSONDecodeError:
                if len(self._text) - self._at > MAX_RECORD_CHARACTERS or not self._read_on():
                    raise


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JARVIS file (plain, gzip, zip) in order; a DataError if it is cut or damaged."""
    text = _Text(text_pieces(path))
    if text.peek() != "[":
        raise damaged(path, "is no JARVIS record file: a JSON list of records is expected")
    text.skip()
    row = 0
    more = text.peek() != "]"
    while more:
        try:
            record = text.value()
        except (ValueError, RecursionError) as error:
            raise damaged(path, f"record {row} (counted from 0) is cut or no JSON ({error})") from None
        if not isinstance(record, dict):
            raise damaged(path, f"record {row} (counted from 0) is no JSON object")
        yield record
        row += 1
        mark = text.peek()
        if mark not in (",", "]"):
            raise damaged(path, f"is {'cut' if not mark else 'damaged'} after record {row - 1} (counted from 0)")
        more = mark == ","
        text.skip()
    if not row:
        raise damaged(path, "holds no record")


def missing_keys(record: dict[str, Any]) -> list[str]:
    """Return the required keys that a record lacks, such as `atoms.coords`."""
    missing = [key for key in REQUIRED_KEYS if key not in record]
    atoms = record.get("atoms")
    if isinstance(atoms, dict):
        missing += [f"atoms.{key}" for key in REQUIRED_ATOMS_KEYS if key not in atoms]
    elif "atoms" in record:
        missing.append("atoms (as an object)")
    return missing


def crystal_of(record: dict[str, Any], row: int) -> Crystal:
    """Make the crystal of a record, Cartesian coordinates [A] made fractional; a CrystalError if there is none."""
    if missing := missing_keys(record):
        raise CrystalError("missing_keys", f"record {row} (counted from 0) lacks {', '.join(missing)}")
    if not isinstance(record["jid"], str) or not record["jid"].strip():
        raise CrystalError("no_id", f"record {row} (counted from 0) has no jid")
    atoms = record["atoms"]
    try:
        numbers = [atomic_number(symbol.strip()) for symbol in atoms["elements"]]
    except InputError as error:
        raise CrystalError("unknown_species", str(error)) from None
    except (AttributeError, TypeError):
        raise CrystalError("bad_numbers", "elements are no list of symbols") from None
    coords = atoms["coords"]
    if atoms.get("cartesian") in (True, "true", "True"):
        coords = _fractional(atoms["lattice_mat"], coords)
    return Crystal.create(record["jid"].strip(), atoms["lattice_mat"], numbers, coords)


def _fractional(lattice: object, coords: object) -> np.ndarray:
    try:
        cell = np.array(lattice, dtype=np.float64).reshape(3, 3)
        positions = np.array(coords, dtype=np.float64).reshape(-1, 3)
        solved: np.ndarray = np.linalg.solve(cell.T, positions.T).T
        return solved
    except np.linalg.LinAlgError:
        raise CrystalError("bad_cell", "the lattice vectors lie in one plane") from None
    except (TypeError, ValueError) as error:
        raise CrystalError("bad_numbers", f"lattice or coordinates are no numbers: {error}") from None


def number_of(value: object) -> float | None:
    """Return a label as a number: NaN where JARVIS says `na` (also None, "", NaN), None where it is no number."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        if value.strip().lower() in _MISSING:
            return math.nan
    elif not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else math.nan
