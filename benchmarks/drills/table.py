"""The table of drills."""

from __future__ import annotations

from drills import checkpoints, numbers, paths, resume
from drills.drill import Drill

DRILLS: dict[str, Drill] = {
    drill.name: drill for drill in (*checkpoints.DRILLS, *numbers.DRILLS, *resume.DRILLS, paths.DRILL)
}
"""Name -> drill, in the order of the report."""
