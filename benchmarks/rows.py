"""Runs what the suite promises, row by row, and says which rows hold.

    python benchmarks/rows.py [--only A20,B] [--commands | --tests] [--slow] [--data-file FILE] [--page]

`rows.toml` has a row for everything that a user can see, run, set or rely on: the tests that hold it, and the printed
command where there is one, cut short (few crystals, one epoch). A row holds where its command ends with 0 and every
test passes; a row that only a person can judge names what to look at. Tests of minutes run with `--slow`. `--page`
writes results/rows.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ROWS = Path(__file__).with_name("rows.toml")
PAGE = Path(__file__).with_name("results") / "rows.md"
_LONGEST = 900.0  # seconds of a command


def main() -> int:
    """Run the rows that are asked for; return 1 if one does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="ROWS", help="rows or groups of rows, such as K,A20")
    parser.add_argument("--commands", action="store_true", help="run the commands alone")
    parser.add_argument("--tests", action="store_true", help="run the tests alone")
    parser.add_argument("--slow", action="store_true", help="run the tests of minutes too")
    parser.add_argument("--data-file", default=os.environ.get("CRYSTRATA_JARVIS"), help="the JARVIS-DFT table")
    parser.add_argument("--page", action="store_true", help="write results/rows.md")
    flags = parser.parse_args()
    rows = chosen(tomllib.loads(ROWS.read_text(encoding="utf-8")), flags.only)
    ran = {} if flags.tests else {name: run(row["run"], flags.data_file) for name, row in rows.items() if "run" in row}
    wanted = [] if flags.commands else sorted({test for row in rows.values() for test in row.get("tests", ())})
    tested = outcomes(wanted, slow=flags.slow)
    lines = [line(name, row, ran.get(name), tested) for name, row in rows.items()]
    print("\n".join(lines))
    failed = [name for name, text in zip(rows, lines, strict=True) if text.endswith("| NO |")]
    said = f"{len(rows)} rows, {len(ran)} commands, {len(tested)} tests; not held: {', '.join(failed) or 'none'}"
    print(said)
    if flags.page:
        head = ["# Rows", "", *(__doc__ or "").splitlines(), said + ".", "", "| row | says | shown by | holds |"]
        PAGE.write_text("\n".join([*head, "| --- | --- | --- | --- |", *lines, ""]), encoding="utf-8")
    return 1 if failed else 0


def chosen(rows: Mapping[str, Any], only: str) -> dict[str, Any]:
    """Return the rows of the names or groups of a comma-separated list; all without one."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    return {row: content for row, content in rows.items() if not names or row in names or row[0] in names}


def run(command: str, data_file: str | None) -> tuple[bool, float]:
    """Run a command beside links to scripts and examples; return whether it ended with 0, and its seconds."""
    for word, place in {"ROOT": str(ROOT), "DATA": data_file or "nowhere"}.items():
        command = command.replace(word, place)
    folder, binaries = tempfile.mkdtemp(prefix="row_"), str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}", "OMP_NUM_THREADS": "1"}
    for name in ("scripts", "examples"):
        (Path(folder) / name).symlink_to(ROOT / name)
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, shell=True, cwd=folder, env=environment, timeout=_LONGEST, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        print(f"{command}\n  longer than {_LONGEST:.0f} s", file=sys.stderr)
        return False, _LONGEST
    if done.returncode:
        print(f"{command}\n  ended with {done.returncode}: {done.stderr.strip()[-400:]}", file=sys.stderr)
    return done.returncode == 0, time.perf_counter() - started


def outcomes(tests: Sequence[str], *, slow: bool = False) -> dict[str, str]:
    """Return the outcome of each test, `passed`, `failed`, `skipped` or `not run`; of all its parameters together."""
    if not tests:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", f"--junit-xml={report}"]
        command += ["-m", "slow or not slow"] if slow else []
        subprocess.run([*command, *tests], cwd=ROOT, stdout=subprocess.DEVNULL)
        cases = [*ET.parse(report).iter("testcase")] if report.is_file() else []
    found: dict[str, set[str]] = {test: set() for test in tests}
    for case in cases:
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '').partition('[')[0]}"
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found.setdefault(name, set()).add(outcome)
    return {test: _together(found[test]) for test in tests}


def _together(outcomes: set[str]) -> str:
    return next((word for word in ("failed", "passed", "skipped") if word in outcomes), "not run")


def line(name: str, row: Mapping[str, Any], ran: tuple[bool, float] | None, tested: Mapping[str, str]) -> str:
    """Return a row of the table: what it says, what shows it, whether it holds."""
    shown, holds = [], []
    if ran is not None:
        shown.append(f"`{row['run']}` ({ran[1]:.0f} s)")
        holds.append(ran[0])
    for test in row.get("tests", ()):
        if test in tested:
            shown.append(f"{test.removeprefix('tests/')}{'' if tested[test] == 'passed' else f' ({tested[test]})'}")
            holds.append(tested[test] != "failed")
    if "see" in row:
        shown.append(row["see"])
    verdict = "see there" if not holds else "yes" if all(holds) else "NO"
    return f"| {name} | {row['says'].replace('|', '/')} | {'; '.join(shown)} | {verdict} |"


if __name__ == "__main__":
    raise SystemExit(main())
