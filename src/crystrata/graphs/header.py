"""The header of a store: what it was built from, its counts, the digest of each array and of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crystrata.errors import DataError, UsageError
from crystrata.files import digest_of_json
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import ARRAY_FORMS

SCHEMA_VERSION = 3
HEADER = "store.json"
_SEAL = "sha256"


def damaged(path: Path, what: str) -> DataError:
    """Build the error for a store on disk that is not what was written."""
    return DataError(f"store {path} is damaged: {what}. It must be built anew.")


def sealed(header: dict[str, Any]) -> dict[str, Any]:
    """Return a header with its own SHA-256."""
    return {**header, _SEAL: digest_of_json(header)}


def read_header(path: Path) -> dict[str, Any]:
    """Read the header of the store in a folder.

    Raises:
        DataError: There is none, it is damaged, or of another version.
    """
    try:
        header = json.loads((path / HEADER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is no graph store: {HEADER} is missing. It must be built anew.") from None
    except OSError as error:
        raise damaged(path, f"{HEADER} cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise damaged(path, f"{HEADER}: {error}") from None
    return checked_header(header, f"store {path}")


def checked_header(header: Any, where: str) -> dict[str, Any]:
    """Return a store's header if it is one of this version, as it was written.

    Args:
        header: JSON value.
        where: What it was read from, for messages.

    Raises:
        DataError: It is of another form or version, or a byte of it has changed.
    """
    if not isinstance(header, dict) or not isinstance(header.get("arrays"), dict):
        raise DataError(f"{where} is damaged: its header is no header of a store. It must be built anew.")
    if header.get("schema") != SCHEMA_VERSION or set(header["arrays"]) != set(ARRAY_FORMS):
        raise DataError(
            f"{where} has schema {header.get('schema')}, this version reads {SCHEMA_VERSION}. It must be built anew."
        )
    if header.get(_SEAL) != digest_of_json({name: value for name, value in header.items() if name != _SEAL}):
        raise DataError(f"{where} is damaged: its header has changed. It must be built anew.")
    try:
        GraphSettings(**header["settings"])
        str(header["source"]["digest"])
        _ = header["rejected"], [int(entry["rows"]) for entry in header["arrays"].values()]
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise DataError(f"{where} is damaged: header entry {error}. It must be built anew.") from None
    return header
