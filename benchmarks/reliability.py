"""Drills of reliability: kills, full disks, flipped bits, signals, bad numbers; goal, tried and failed for each.

    python benchmarks/reliability.py [--quick] [--only NAME,NAME]

In full form each drill replaces its row of benchmarks/results/reliability.md. The exit code is 1 where anything
failed. `CRYSTRATA_JARVIS` may name a JARVIS-DFT file: drills that need real crystals say so where it does not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from crystrata.files import write_text
from drills.drill import Drill, NotTried, Tally
from drills.table import DRILLS

RESULT = Path(__file__).parent / "results" / "reliability.md"
HEAD = ["# Drills of reliability", "", "Made by `python benchmarks/reliability.py`.", ""]
NOT_TRIED = [
    "Not tried by these drills: Windows and macOS (the hosted workflow runs the quick form there), GPUs, network file",
    "systems, loss of power. The requeue drill has a scheduler of its own in place of SLURM's.",
]
COLUMNS = ("drill", "goal", "tried", "failed", "seconds")


def main() -> int:
    """Run the drills that are asked for, print the table, and write it after a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few attempts each, as in the tests")
    parser.add_argument("--only", metavar="NAME,NAME", help=f"some of {', '.join(DRILLS)}")
    flags = parser.parse_args()
    names = flags.only.split(",") if flags.only else list(DRILLS)
    if unknown := [name for name in names if name not in DRILLS]:
        parser.error(f"unknown drill {', '.join(unknown)}; known: {', '.join(DRILLS)}")
    console = Console()
    rows, failed = [], False
    for name in names:
        with console.status(name):
            row, wrong = carry_out(DRILLS[name], flags.quick)
        console.print(f"{name}: {row['tried']} tried, {row['failed']} failed, {row['seconds']} s", highlight=False)
        for line in wrong:
            console.print(f"  {line}", style="red", markup=False, highlight=False)
        rows.append(row)
        failed = failed or bool(wrong)
        if not flags.quick:
            _write(row)
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*(str(row[column]) for column in COLUMNS))
    console.print(table)
    return int(failed)


def carry_out(drill: Drill, quick: bool) -> tuple[dict[str, object], list[str]]:
    """Run one drill in a scratch folder; return its row and what went wrong."""
    tally, started, tried = Tally(), time.perf_counter(), ""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            drill.run(quick, Path(scratch), tally)
        except NotTried as reason:
            tried = f"not tried: {reason}"
        except Exception as error:  # a drill that breaks is a failure of its own; the others go on
            tally.failures.append(f"the drill broke: {type(error).__name__}: {error}")
    seconds = round(time.perf_counter() - started)
    counts = (tried or tally.tried, len(tally.failures))
    return dict(zip(COLUMNS, (drill.name, drill.goal, *counts, seconds), strict=True)), tally.failures


def _write(row: dict[str, object]) -> None:
    lines = RESULT.read_text(encoding="utf-8").splitlines() if RESULT.is_file() else []
    kept = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    kept[str(row["drill"])] = "| " + " | ".join(str(row[column]) for column in COLUMNS) + " |"
    head = ["| " + " | ".join(COLUMNS) + " |", "| --- | --- | ---: | ---: | ---: |"]
    table = head + [kept[name] for name in DRILLS if name in kept]
    write_text(RESULT, "\n".join([*HEAD, *table, "", *NOT_TRIED]) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
