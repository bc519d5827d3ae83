"""The table of drills."""

from __future__ import annotations

from drills.drill import Drill

DRILLS: dict[str, Drill] = {drill.name: drill for drill in ()}
"""Name -> drill, in the order of the report."""
