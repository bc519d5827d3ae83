"""What is kept on disk between runs, in small: a store, a hull, prototypes. Each function makes it or reads it back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from crystrata.datasets.splits.candidates import Candidates
from crystrata.datasets.splits.prototypes import cached_prototypes
from crystrata.graphs.portable import export_portable, import_portable
from crystrata.graphs.store import open_store
from crystrata.hull import cached_hull_energies, formula_counts
from drills.small_stores import SETTINGS, bytes_of, rock_salts, table_of

SALTS = rock_salts(6)
NOTES = (".lock", ".checked")  # stay, and may differ


def store_in(folder: Path) -> bytes:
    """Return all arrays of a small store."""
    files = bytes_of(open_store(table_of(SALTS), SETTINGS, folder).path)
    return b"".join(files[name] for name in sorted(files) if name.endswith(".bin"))


def hull_in(folder: Path) -> bytes:
    """Return the hull of some made-up compounds."""
    counts = formula_counts(["Na", "Cl", "NaCl", "Na2Cl", "NaCl3", "KCl", "K2Cl", "NaKCl2", "NaCl"])
    energies = -np.random.default_rng(0).random(len(counts))
    return cached_hull_energies(counts, energies, energies < 0, cache_dir=folder, key="drill").tobytes()


def prototypes_in(folder: Path) -> bytes:
    """Return the prototypes of some rock salts."""
    numbers, frac = (np.concatenate([getattr(one, name) for one in SALTS]) for name in ("numbers", "frac"))
    lattice, ids = np.stack([one.lattice for one in SALTS]), [one.id for one in SALTS]
    atom_counts, spacegroups = np.full(len(SALTS), 2), np.full(len(SALTS), 225)
    crystals = Candidates(ids, ["ClNa"] * len(SALTS), spacegroups, lattice, atom_counts, numbers, frac)
    return "\n".join(cached_prototypes(crystals, folder)).encode()


KEPT: dict[str, Callable[[Path], bytes]] = {"store": store_in, "hull": hull_in, "prototypes": prototypes_in}
"""Kind -> function of the folder that it is kept in."""


def exported(store: Path, folder: Path) -> bytes:
    """Write the portable form of the store in a folder; return it."""
    export_portable(open_store(table_of(SALTS), SETTINGS, store), folder / "portable")
    return (folder / "portable").read_bytes()


def imported(portable: Path, folder: Path) -> bytes:
    """Unpack a portable form; return all arrays of its store."""
    import_portable(portable, folder)
    return store_in(folder)


def all_kinds(scratch: Path) -> dict[str, Callable[[Path], bytes]]:
    """Everything that is written, as functions of a folder; export and import work from `scratch`."""
    exported(scratch / "source", scratch)
    moves = {"export": partial(exported, scratch / "source"), "import": partial(imported, scratch / "portable")}
    return {**KEPT, **moves}


def warm(folder: Path) -> None:
    """Import what all kinds need."""
    for kind in KEPT.values():
        kind(folder)


def folder_at(path: Path) -> Path:
    """Make a folder and return it."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def names_in(folder: Path) -> list[str]:
    """Names of all that is in a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def content_of(folder: Path) -> dict[str, bytes]:
    """Files of a folder and of those in it, without locks and notes of checks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in NOTES)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
