"""What every protocol is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crystrata.datasets.splits.candidates import Candidates

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SplitRequest:
    """The crystals to split, and where a protocol finds what it needs beside them.

    Attributes:
        crystals: The crystals; no label is among what a protocol sees.
        seed: Seed of every choice that is not given by published ids.
        data_dir: Folder of downloads and caches.
        splits_file: Published splits as the user names them, or None to look for them.
        data_file: Local data file, beside which published splits are looked for.
        workers: Processes for the symmetry analysis; 0 works in this one.
        progress: Called with (crystals done, crystals in all) during the symmetry analysis.
    """

    crystals: Candidates
    seed: int
    data_dir: Path
    splits_file: Path | None = None
    data_file: Path | None = None
    workers: int = 0
    progress: Progress | None = None
