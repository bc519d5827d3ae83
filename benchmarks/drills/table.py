"""The table of drills."""

from __future__ import annotations

from drills.continuity import CONTINUITY
from drills.drill import Drill
from drills.file_forms import FILE_FORMS
from drills.invariances import INVARIANCES

DRILLS: dict[str, Drill] = {drill.name: drill for drill in (INVARIANCES, CONTINUITY, FILE_FORMS)}
"""Name -> drill, in the order of the report."""
