"""What every protocol is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crystrata.datasets.splits.candidates import Candidates

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
