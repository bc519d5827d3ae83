"""The table of drills."""

from __future__ import annotations

from drills import paths
from drills.drill import Drill

DRILLS: dict[str, Drill] = {drill.name: drill for drill in (paths.DRILL,)}
"""Name -> drill, in the order of the report."""
