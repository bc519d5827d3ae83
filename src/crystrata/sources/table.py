"""A data source opened for use: crystals and their labels, row by row, with where they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from crystrata.structures.crystal import Crystal

FRAMES_GIVEN = ("original", "restored", "irrelevant")
"""Values of the column `orientation` for which tensor labels are stated in the frame of the lattice."""


@dataclass(frozen=True)
class CrystalTable:
    """Crystals with labels; row i of `labels` belongs to the i-th crystal.

    Attributes:
        name: Source name in manifests and tables: `dft_3d_2021`, `demo`, a file name.
        digest: SHA-256 that changes whenever a crystal changes (labels may share it); the key of stores.
        labels: Index `id` (distinct strings); raw label columns as float64, NaN where unknown; and the columns
            `formula` (reduced, see `reduced_formula`), `orientation` (str, see the README of the data) when known.
        crystals: Opens an iterator over all crystals in row order; called only when graphs must be built.
        demo: True for the demo crystals; every table and manifest then says so.
        provenance: File, release, row count, digests: written into the run manifest as it is.
    """

    name: str
    digest: str
    labels: pd.DataFrame
    crystals: Callable[[], Iterator[Crystal]]
    demo: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)
