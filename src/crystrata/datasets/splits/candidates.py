"""The crystals to be split: all that a protocol may look at, and no label among it. n crystals, N atoms in all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from crystrata.errors import UsageError

if TYPE_CHECKING:
    from crystrata.datasets.dataset import CrystalPropertyDataset


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
    def of(cls, dataset: CrystalPropertyDataset) -> Candidates:
        """Return the crystals of a data set."""
        labels, graphs = dataset.labels, dataset.graphs
        known = "spacegroup" in labels.columns
        return cls(
            ids=dataset.ids,
            formulas=labels["formula"].astype(str).tolist(),
            spacegroups=labels["spacegroup"].to_numpy(np.int64) if known else np.zeros(len(dataset), dtype=np.int64),
            lattice=graphs.lattice,
            atom_counts=graphs.atom_counts,
            numbers=graphs.numbers,
            frac=graphs.frac,
            demo=bool(dataset.store.header["source"]["demo"]),
        )

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
