"""`run.log`: what is printed before and after a run has a directory, without bars, and how the run ended."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from crystrata.errors import DataError
from crystrata.runs.directory import RUN_LOG
from crystrata.workflows.run_log import RunLog


def printed(console: Console) -> None:
    """Print a line, a bar with a line above it, and a table, as a run does."""
    console.print("warning: a line in yellow, " + 20 * "long, ", style="yellow", soft_wrap=True)
    with Progress(console=console) as bar:
        bar.update(bar.add_task("training", total=3), advance=1)
        console.print("epoch 1/3")
    table = Table("property", "val")
    table.add_row("band_gap [eV]", "0.123")
    console.print(table)


def fail(console: Console, directory: Path | None, command: str) -> None:
    """A run that fails, before it has a directory or after."""
    with RunLog(console) as log:
        console.print("reading")
        if directory is not None:
            log.open(directory, [command])
        raise DataError(f"the {command} one failed")


@pytest.mark.parametrize("terminal", [True, False])
def test_it_has_what_was_printed_and_no_bar(tmp_path: Path, terminal: bool) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=80, force_terminal=terminal, markup=False, color_system="standard")
    with RunLog(console) as log:
        console.print("notice: before the directory is made")
        log.open(tmp_path, ["train.py", "--epochs", "3"])
        printed(console)
    console.print("after the run")
    lines = (tmp_path / RUN_LOG).read_text().splitlines()
    assert lines[0].endswith(" UTC  train.py --epochs 3")
    assert lines[1] == "notice: before the directory is made"
    assert lines[2] == "warning: a line in yellow, " + 20 * "long, "
    assert lines[3] == "epoch 1/3"
    text = "\n".join(lines)
    assert "band_gap [eV]" in text
    assert [word for word in ("\x1b", "training", "after the run") if word in text] == []
    assert "training" in screen.getvalue()  # on the screen there is a bar


def test_a_continued_run_adds_to_it_and_an_error_is_its_last_line(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    for command in ("first", "second"):
        with pytest.raises(DataError):
            fail(console, tmp_path, command)
    first, _, failed, second, _, again = (tmp_path / RUN_LOG).read_text().splitlines()
    assert (first.split()[-1], second.split()[-1]) == ("first", "second")
    assert (failed, again) == ("DataError: the first one failed", "DataError: the second one failed")


def test_a_run_without_a_directory_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    console = Console(file=io.StringIO())
    with pytest.raises(DataError):
        fail(console, None, "only")
    assert list(tmp_path.iterdir()) == []
