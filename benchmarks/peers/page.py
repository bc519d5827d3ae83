"""What was measured, as tables for a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from crystrata.reports.tables import markdown
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
            row["measured"] = f"{_figure(median)}x"
            row["least and greatest round"] = f"{_figure(least)} - {_figure(greatest)}"
        rows.append(row)
    return pd.DataFrame(rows)


def group_table(group: Group, rows: Sequence[Measured]) -> pd.DataFrame:
    """Return the rows of a group, with the columns that at least one of them fills."""
    table = pd.DataFrame([_row(group, one) for one in rows])
    return table[[column for column in table if (table[column] != "").any()]]


def shown(title: str, table: pd.DataFrame) -> Table:
    """Return a table for the terminal."""
    result = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    for column in table:
        result.add_column(str(column), justify="left" if column in ("what", "versions", "remark") else "right")
    for row in table.itertuples(index=False):
        result.add_row(*map(str, row))
    return result


def _row(group: Group, one: Measured) -> dict[str, Any]:
    facts = one.facts
    row = {"what": one.contestant.label, f"{group.unit} per crystal": "-", "least and greatest round": "-",
           "crystals/s": "-"}  # fmt: skip
    if not one.problem:
        least, median, greatest = spread(one.per_crystal(group.unit_seconds))
        row[f"{group.unit} per crystal"] = _figure(median)
        row["least and greatest round"] = f"{_figure(least)} - {_figure(greatest)}"
        row["crystals/s"] = _figure(1 / (median * group.unit_seconds))
    for name in ("edges per atom", "angles per atom", "parameters", "compile [s]"):
        row[name] = _figure(facts[name]) if name in facts else ""
    row["versions"], row["remark"] = facts.get("versions", ""), one.problem or facts.get("remark", "")
    return row


def _figure(value: float) -> str:
    """Return a number with three digits at least, never with an exponent."""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
