"""The portable form of a store: one compressed file without what can be rebuilt by arithmetic (vectors, angles)."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from crystrata.errors import DataError
from crystrata.files import write_atomically
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import ARRAY_FORMS, STORED_ARRAYS, derive, offsets
from crystrata.graphs.store import GraphStore, cached_store, store_path
from crystrata.graphs.store_files import ArrayWriter, checked_header, publish

_MAGIC = b"crystrata-store-1\n"
_PART = 2048  # crystals whose vectors and angles are derived at once


def export_portable(store: GraphStore, file: Path) -> None:
    """Write a store as one compressed file, atomically."""
    header = json.dumps(store.header).encode()

    def write(out: BinaryIO) -> None:
        out.write(_MAGIC)
        with lzma.open(out, "wb", preset=3) as packed:
            packed.write(len(header).to_bytes(8, "little") + header)
            for name in STORED_ARRAYS:
                packed.write(_planes(np.ascontiguousarray(getattr(store.arrays, name))))

    write_atomically(file, write)


def import_portable(file: Path, stores: Path) -> GraphStore:
    """Unpack a portable store into the folder of stores and open it; a DataError if it is cut, changed, or none."""
    header, arrays = _read(file)
    path = store_path(stores, header["source"]["digest"], GraphSettings(**header["settings"]))
    return cached_store(path, lambda: publish(path, lambda folder: _write_store(file, folder, header, arrays)))


def _write_store(file: Path, folder: Path, header: dict, arrays: dict[str, np.ndarray]) -> None:
    """Fill a store folder; what was stored must have the digests of its header before the folder is published."""
    with ArrayWriter(folder) as writer:
        for part in _parts(arrays):
            writer.append(derive(part))
        settings = GraphSettings(**header["settings"])
        written = writer.finish(source=header["source"], settings=settings, rejected=header["rejected"])
    changed = [name for name in STORED_ARRAYS if written[name]["sha256"] != header["arrays"][name]["sha256"]]
    if changed:  # derived arrays may differ in the last bit on another machine
        raise DataError(f"portable store {file} is damaged: {', '.join(changed)} differ from the header; copy it again")


def _parts(arrays: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the stored arrays a few thousand crystals at a time, so that memory stays bounded."""
    atoms = offsets(arrays["atom_counts"])
    edges = offsets(arrays["edge_counts"])[atoms]
    for first in range(0, len(arrays["atom_counts"]), _PART):
        last = min(first + _PART, len(arrays["atom_counts"]))
        bounds = {"crystal": (first, last), "atom": atoms[[first, last]], "edge": edges[[first, last]]}
        yield {name: array[slice(*bounds[ARRAY_FORMS[name].per])] for name, array in arrays.items()}


def _read(file: Path) -> tuple[dict, dict[str, np.ndarray]]:
    try:
        with open(file, "rb") as raw:
            if raw.read(len(_MAGIC)) != _MAGIC:
                raise DataError(f"{file} is no portable graph store; process_data_phase2.py --export FILE makes one")
            with lzma.open(raw, "rb") as packed:
                header = json.loads(packed.read(int.from_bytes(packed.read(8), "little")))
                header = checked_header(header, f"portable store {file}")
                arrays = {}
                for name in STORED_ARRAYS:
                    form, rows = ARRAY_FORMS[name], header["arrays"][name]["rows"]
                    size = rows * int(np.prod(form.row, dtype=np.int64)) * np.dtype(form.dtype).itemsize
                    data = packed.read(size)
                    if len(data) != size:
                        raise EOFError
                    arrays[name] = _joined(data, form.dtype).reshape(rows, *form.row)
        return header, arrays
    except OSError as error:
        raise DataError(f"cannot read portable store {file}: {error.strerror or error}") from None
    except (EOFError, lzma.LZMAError, ValueError, KeyError) as error:
        raise DataError(f"portable store {file} is cut or damaged ({type(error).__name__}); copy it again") from None


def _planes(array: np.ndarray) -> bytes:
    """Return the bytes of an array sorted by significance: equal high bytes stand together and compress well."""
    return array.reshape(-1).view(np.uint8).reshape(-1, array.dtype.itemsize).T.tobytes()


def _joined(data: bytes, dtype: str) -> np.ndarray:
    itemsize = np.dtype(dtype).itemsize
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(itemsize, -1).T).reshape(-1).view(dtype)
