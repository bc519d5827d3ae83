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
    """Crystals with labels; row i of `labels` belongs to the i-th crystal."""

    name: str  # source name in manifests and tables: `dft_3d_2021`, `demo`, a file name
    digest: str  # SHA-256 that changes whenever a crystal changes (labels may share it); the key of stores
    # index `id` (distinct strings); raw label columns as float64, NaN where unknown; and the columns `formula` (see
    # `reduced_formula`), `orientation` (str, see the README of the data) when known
    labels: pd.DataFrame
    crystals: Callable[[], Iterator[Crystal]]  # in row order; opened only when graphs must be built
    demo: bool = False  # every table and manifest then says so
    provenance: dict[str, Any] = field(default_factory=dict)  # file, release, rows, digests: part of the run manifest

    def __len__(self) -> int:
        return len(self.labels)
