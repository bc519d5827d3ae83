"""What was measured, as tables for a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from crystrata.reports.tables import cell_text, markdown
from peers.contest import Measured, ratios, spread
from peers.rows import GOALS, GROUPS, Goal, Group


def page(head: str, measured: Sequence[Measured]) -> str:
    """Return the whole page: the ratios, then a table per group."""
    parts = [head]
    goals = goal_table(measured)
    if len(goals):
        parts.append("## Ratios of CPU time\n\n" + markdown(goals))
    for group in GROUPS:
        rows = [one for one in measured if one.contestant.group == group.key]
        if rows:
            parts.append(f"## {group.title}\n\n{group.note}\n\n" + markdown(group_table(group, rows)))
    return "\n".join(parts)


def goal_table(measured: Sequence[Measured], goals: Sequence[Goal] = GOALS) -> pd.DataFrame:
    """Return the ratios of which both sides were to be measured: the figure to reach beside what came out."""
    found = {one.contestant.key: one for one in measured}
    rows = []
    for goal in goals:
        if not {goal.slow, goal.fast} <= set(found):
            continue
        slow, fast = found[goal.slow], found[goal.fast]
        row: dict[str, Any] = {"what": goal.what, "at least": f"{goal.least:g}x" if goal.least else "-"}
        if slow.problem or fast.problem:
            row |= {"measured": "not measured", "least and greatest round": "-"}
        else:
            least, median, greatest = spread(ratios(slow, fast))
            row["measured"] = f"{median:.3g}x"
            row["least and greatest round"] = f"{least:.3g} - {greatest:.3g}"
        rows.append(row)
    return pd.DataFrame(rows)


def group_table(group: Group, rows: Sequence[Measured]) -> pd.DataFrame:
    """Return the rows of a group, with the columns that at least one of them fills."""
    table = pd.DataFrame([_row(group, one) for one in rows])
    return table[[column for column in table if (table[column] != "").any()]]


def _row(group: Group, one: Measured) -> dict[str, Any]:
    facts = one.facts
    row = {"what": one.contestant.label, f"{group.unit} per crystal": "-", "least and greatest round": "-",
           "crystals/s": "-"}  # fmt: skip
    if not one.problem:
        least, median, greatest = spread(one.per_crystal(group.unit_seconds))
        row[f"{group.unit} per crystal"] = f"{median:.3g}"
        row["least and greatest round"] = f"{least:.3g} - {greatest:.3g}"
        row["crystals/s"] = f"{1 / (median * group.unit_seconds):,.0f}"
    for name in ("edges per atom", "angles per atom", "parameters", "compile [s]", "versions"):
        row[name] = cell_text(facts[name], 3) if name in facts else ""
    row["remark"] = one.problem or facts.get("remark", "")
    return row
