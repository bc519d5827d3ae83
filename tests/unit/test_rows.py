"""The table of rows: every row is shown by something, and the tests that it names are there."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest

from rows import chosen, line, run

ROOT = Path(__file__).parents[2]
ROWS: dict[str, Any] = tomllib.loads((ROOT / "benchmarks" / "rows.toml").read_text(encoding="utf-8"))


def test_every_row_is_shown_by_tests_a_command_or_a_place() -> None:
    assert {row[0] for row in ROWS} == set("KABCD")
    assert [name for name, row in ROWS.items() if not row["says"] or not {"tests", "run", "see"} & set(row)] == []


def test_the_tests_that_rows_name_are_there() -> None:
    defined: dict[str, set[str]] = {}
    missing = []
    for name, row in ROWS.items():
        for test in row.get("tests", ()):
            file, _, function = test.partition("::")
            if file not in defined:
                tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
                defined[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            if function not in defined[file]:
                missing.append(f"{name}: {test}")
    assert missing == []


def test_rows_are_chosen_by_name_and_group() -> None:
    assert set(chosen(ROWS, "K1, D")) == {"K1", *(name for name in ROWS if name[0] == "D")}
    assert chosen(ROWS, "") == ROWS


@pytest.mark.parametrize(
    ("command", "holds"), [('ls ROOT/README.md examples/cifs && test -z "$(ls models)"', True), ("ls ROOT/no", False)]
)
def test_a_command_runs_beside_scripts_and_examples(
    command: str, holds: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, None)[0] == holds
    assert ("ended with" in capsys.readouterr().err) != holds


def test_a_row_holds_where_its_command_and_every_test_do() -> None:
    row = {"says": "it works", "tests": ["tests/a.py::test_one", "tests/a.py::test_two"], "run": "do"}
    outcomes = {"tests/a.py::test_one": "passed", "tests/a.py::test_two": "skipped"}
    assert line("K1", row, (True, 2.0), outcomes) == (
        "| K1 | it works | `do` (2 s); a.py::test_one; a.py::test_two (skipped) | yes |"
    )
    assert line("K1", row, (False, 2.0), outcomes).endswith("| NO |")
    assert line("K1", row, (True, 2.0), {**outcomes, "tests/a.py::test_one": "failed"}).endswith("| NO |")
    assert line("K1", {"says": "x", "see": "README.md"}, None, {}).endswith("| README.md | see there |")
