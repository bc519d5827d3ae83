"""Small stores for drills: their crystals, building and importing them, spoiling and comparing them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from crystrata.files import digest_of_json
from crystrata.graph_settings import GraphSettings
from crystrata.graphs import store
from crystrata.graphs.neighbours import build_graphs
from crystrata.graphs.portable import import_portable
from crystrata.graphs.store import GraphStore, open_store
from crystrata.sources.demo import open_demo
from crystrata.sources.jarvis import open_data_file
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal

SETTINGS = GraphSettings()


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Content of every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rock_salts(count: int, first: float = 4.0) -> list[Crystal]:
    """Made-up rock salts whose edge grows from `first` [A]."""
    cell = (np.ones((3, 3)) - np.eye(3)) / 2
    frac = [(0, 0, 0), (0.5, 0.5, 0.5)]
    return [Crystal.create(f"salt-{n}", (first + 0.01 * n) * cell, [11, 17], frac) for n in range(count)]


def real_crystals(count: int) -> Sequence[Crystal]:
    """Crystals of the JARVIS file that CRYSTRATA_JARVIS names, spread over all of it; else of the demo."""
    named = os.environ.get("CRYSTRATA_JARVIS")
    table = open_data_file(Path(named), cache_dir=Path(os.devnull)) if named else open_demo()
    step = max(1, len(table) // count)
    return [one for row, one in enumerate(table.crystals()) if row % step == 0][:count]


def table_of(crystals: Sequence[Crystal]) -> CrystalTable:
    """A table of crystals in memory."""
    key = [[one.id, one.lattice.tolist(), one.numbers.tolist(), one.frac.tolist()] for one in crystals]
    labels = pd.DataFrame(index=pd.Index([one.id for one in crystals], name="id"))
    return CrystalTable("drill", digest_of_json(key), labels, partial(iter, list(crystals)))


def warm() -> None:
    """Import what building a graph needs."""
    build_graphs(enumerate(rock_salts(1)), SETTINGS)


def build(table: CrystalTable, stores: Path, workers: int = 0) -> str:
    """Open a store in small chunks; return the digest of its header."""
    store._CHUNK = 8
    return digest_of_json(open_store(table, SETTINGS, stores, workers=workers).header)


def unpack(portable: Path, stores: Path) -> None:
    """Import a portable store."""
    import_portable(portable, stores)


def open_anew(table: CrystalTable, stores: Path) -> tuple[GraphStore, list[str]]:
    """Open a store as the next start does; return it with the warnings that were given."""
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        opened = open_store(table, SETTINGS, stores)
    return opened, [str(one.message) for one in given]


def spoil(file: Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def left_over(stores: Path, name: str) -> list[str]:
    """Names in a folder of stores that do not belong to the one store that should be there."""
    return sorted({path.name for path in stores.iterdir()} - {name, f".{name}.lock", f".{name}.checked"})
