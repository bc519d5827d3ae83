"""The crystals to be split: all that a protocol may look at, and no label among it; and where it finds what it needs
besides. n crystals, N atoms in all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystrata.errors import UsageError

if TYPE_CHECKING:
    from crystrata.datasets.materials import Materials


@dataclass(frozen=True)
class Candidates:
    """The crystals of a data set, row by row.

    Attributes:
        ids: Distinct ids.
        formulas: Reduced formulas.
        spacegroups: Space group numbers as the source states them, 0 where it does not, (n,).
        lattice: Lattice vectors as rows, (n, 3, 3) [A].
        atom_counts: Atoms of each crystal, (n,).
        numbers: Atomic numbers of all crystals, one after the other, (N,).
        frac: Fractional coordinates, (N, 3).
        demo: Whether these are the demo crystals.
    """

    ids: list[str]
    formulas: list[str]
    spacegroups: np.ndarray
    lattice: np.ndarray
    atom_counts: np.ndarray
    numbers: np.ndarray
    frac: np.ndarray
    demo: bool = False

    @classmethod
    def of(cls, materials: Materials) -> Candidates:
        """Return what protocols may look at of some materials; nothing of crystals where not all have one."""
        n, table = len(materials), materials.table
        spacegroups = np.zeros(n, dtype=np.int64)
        if table is not None and "spacegroup" in table.columns:
            spacegroups = table["spacegroup"].to_numpy(np.int64)
        graphs = None if materials.structures is None else materials.structures.graphs
        in_order = graphs is not None and np.array_equal(materials.structures.row, np.arange(len(graphs)))  # type: ignore[union-attr]
        if graphs is None or not in_order:
            nothing = np.empty((0, 3))
            return cls(
                list(materials.ids), list(materials.formulas), spacegroups, np.empty((0, 3, 3)), np.zeros(n, np.int64),
                np.empty(0, np.int64), nothing, materials.demo,
            )  # fmt: skip
        return cls(
            ids=list(materials.ids),
            formulas=list(materials.formulas),
            spacegroups=spacegroups,
            lattice=graphs.lattice,
            atom_counts=graphs.atom_counts,
            numbers=graphs.numbers,
            frac=graphs.frac,
            demo=materials.demo,
        )

    def require_crystals(self, protocol: str) -> None:
        """Refuse a protocol that looks at crystals where not every material has one.

        Raises:
            UsageError: Not every material has one.
        """
        if len(self.lattice) != len(self):
            raise UsageError(f"--split {protocol} looks at crystals, and some materials have none: take another split")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def volumes(self) -> np.ndarray:
        """Volume per atom, (n,) [A^3]."""
        volumes: np.ndarray = np.abs(np.linalg.det(self.lattice)) / self.atom_counts
        return volumes

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each id."""
        return {id: row for row, id in enumerate(self.ids)}

    def rows(self, ids: frozenset[str]) -> np.ndarray:
        """Return the rows of those ids that are there, ascending."""
        return np.array(sorted(self.row_of[id] for id in ids if id in self.row_of), dtype=np.int64)

    def all_rows(self, ids: frozenset[str], what: str) -> np.ndarray:
        """Return the rows of ids that must all be there, ascending.

        Args:
            ids: Ids of a published test part.
            what: Words for the error, such as `--split union`.

        Raises:
            UsageError: An id is not among the crystals.
        """
        if missing := sorted(id for id in ids if id not in self.row_of):
            raise UsageError(
                f"{what} tests {len(ids)} crystals, and {len(missing)} of them are not in this data ({missing[0]}, for "
                f"one): a part of an official test compares with nothing. Use the release dft_3d_2021, or another split"
            )
        return self.rows(ids)


Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SplitRequest:
    """The materials to split, and where a protocol finds what it needs beside them.

    Attributes:
        crystals: The materials; no label is among what a protocol sees.
        seed: Seed of every choice that is not given by published ids.
        data_dir: Folder of downloads and caches.
        splits_file: Published splits as the user names them, or None to look for them.
        data_file: Local data file, beside which published splits are looked for.
        workers: Processes for the symmetry analysis; 0 works in this one.
        stated: Part that tables put each material into, (n,): its place in `PARTS`, -1 where none says so.
        known: Task -> whether each material has a known label, (n,): protocols share out rare tasks evenly.
        val: Share of the validation part, for protocols that take one.
        test: Share of the test part, for protocols that take one.
        progress: Called with (crystals done, crystals in all) during the symmetry analysis.
    """

    crystals: Candidates
    seed: int
    data_dir: Path
    splits_file: Path | None = None
    data_file: Path | None = None
    workers: int = 0
    stated: np.ndarray | None = None
    known: Mapping[str, np.ndarray] = field(default_factory=dict)
    val: float = 0.1
    test: float = 0.1
    progress: Progress | None = None
