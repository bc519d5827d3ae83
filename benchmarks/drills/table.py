"""The table of drills."""

from __future__ import annotations

from drills import (
    bad_disks,
    checkpoints,
    continuity,
    downloads,
    file_forms,
    invariances,
    kept_files,
    numbers,
    paths,
    resume,
    stores,
)
from drills.drill import Drill

_MODULES = (
    resume, checkpoints, numbers, stores, kept_files, bad_disks, downloads, paths, invariances, continuity, file_forms,
)  # fmt: skip

DRILLS: dict[str, Drill] = {drill.name: drill for module in _MODULES for drill in module.DRILLS}
"""Name -> drill, in the order of the report."""
