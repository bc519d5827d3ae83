"""Writing the flat files of a store, chunk after chunk, and the header that makes them one."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from crystrata.files import write_json
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import ARRAY_FORMS, GraphArrays
from crystrata.graphs.header import HEADER, SCHEMA_VERSION, sealed


class ArrayWriter:
    """Appends graphs to the flat files of a store and finishes it with the header; closes its files on any exit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._exit = ExitStack()
        self._files = {name: self._exit.enter_context(open(folder / f"{name}.bin", "wb")) for name in ARRAY_FORMS}
        self._digests = {name: hashlib.sha256() for name in ARRAY_FORMS}
        self._rows = dict.fromkeys(ARRAY_FORMS, 0)

    def append(self, graphs: GraphArrays) -> None:
        """Add the graphs of further crystals."""
        for name, file in self._files.items():
            array = np.ascontiguousarray(getattr(graphs, name))
            file.write(array.data)
            self._digests[name].update(array.data)
            self._rows[name] += len(array)

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()

    def finish(self, *, source: dict[str, Any], settings: GraphSettings, rejected: list[dict[str, Any]]) -> dict:
        """Flush the arrays to disk and write the header, which makes the folder a store; return its array entries."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        arrays = {
            name: {"dtype": form.dtype, "rows": self._rows[name], "sha256": self._digests[name].hexdigest()}
            for name, form in ARRAY_FORMS.items()
        }
        header = {"schema": SCHEMA_VERSION, "source": source, "settings": settings.as_dict(),
                  "crystals": self._rows["atom_counts"], "arrays": arrays, "rejected": rejected}  # fmt: skip
        write_json(self._folder / HEADER, sealed(header))
        return arrays
