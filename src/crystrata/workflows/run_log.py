"""`run.log`: what a run prints, in its own directory."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console, ConsoleRenderable, NewLine, RenderHook
from rich.control import Control
from rich.text import Text

from crystrata.files import storage_errors
from crystrata.runs.directory import RUN_LOG

_WIDTH = 120  # columns of a table in the file, whatever the terminal has


class RunLog(RenderHook):
    """Copies what is printed to a console into a file, as plain text and without progress bars.

    A context manager. What is printed before the run has a directory is held until `open`; a run that ends before that
    leaves no file.

    Args:
        console: The console that is copied.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._before = io.StringIO()
        self._file: TextIO = self._before
        self._path = Path(RUN_LOG)

    def __enter__(self) -> RunLog:
        self.console.push_render_hook(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.console.pop_render_hook()
        if kind is not None:
            self._file.write(f"{kind.__name__}: {error}\n")
        self._file.close()

    def open(self, directory: Path, command: list[str]) -> None:
        """Begin the file of a run directory, or add to the one that is there.

        Raises:
            StorageError: It cannot be written.
        """
        self._path = directory / RUN_LOG
        with storage_errors(self._path):
            self._file = self._path.open("a", encoding="utf-8", buffering=1)
            before = self._before.getvalue().lstrip("\n")
            self._file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {' '.join(command)}\n{before}")

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Write what is about to be printed; called by the console."""
        plain = Console(file=self._file, width=_WIDTH, no_color=True, markup=False, emoji=False, highlight=False)
        with storage_errors(self._path):
            for one in renderables:
                if not isinstance(one, Control | NewLine):  # what a bar draws itself with
                    plain.print(one, soft_wrap=isinstance(one, Text))  # a table fills the width
        return renderables
