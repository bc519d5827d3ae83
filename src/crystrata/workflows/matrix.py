"""The model matrix: cell after cell trained, continued or found done; the failure of one stops no other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console

from crystrata.errors import CrystrataError
from crystrata.reports.matrix_table import CAPTION, MATRIX_MD, matrix_table, terminal_matrix, write_matrix
from crystrata.reports.tables import DEMO_CAPTION
from crystrata.runs.cells import Cell, completed_run, unfinished_run
from crystrata.runs.find import find_resumable
from crystrata.runs.registry import read_registry
from crystrata.sources.opening import open_source
from crystrata.sources.table import CrystalTable
from crystrata.workflows.run import resume, run


@dataclass(frozen=True)
class Matrix:
    """The cells of a matrix on one data source.

    Attributes:
        cells: What to train.
        known: Cells that the table shows where a run fills them: those of all tiers with the same settings.
        source: The crystals.
    """

    cells: Sequence[Cell]
    known: Sequence[Cell]
    source: CrystalTable

    @property
    def models_dir(self) -> Path:
        """Folder of all runs; the table goes there."""
        return Path(self.cells[0].config.models_dir)

    def missing(self) -> list[Cell]:
        """Return the cells that no completed run fills."""
        entries = read_registry(self.models_dir)
        return [cell for cell in self.cells if completed_run(cell, entries, self.source.digest) is None]


def open_matrix(cells: Sequence[Cell], known: Sequence[Cell], console: Console) -> Matrix:
    """Open the data source that all cells share.

    Raises:
        DataError: The source is missing or damaged.
    """
    config = cells[0].config
    source = open_source(config.source, config.release, config.data_file, Path(config.data_dir), console)
    return Matrix(cells, known, source)


def run_matrix(
    matrix: Matrix, command: list[str], console: Console, *, only_missing: bool, max_hours: float | None
) -> dict[str, str]:
    """Train the cells one after another; return the names of those that failed with the reason.

    A cell with an unfinished run continues from its checkpoint. The table is rewritten after every cell.

    Args:
        matrix: See `open_matrix`.
        command: The command line, for the manifests.
        console: Where progress goes.
        only_missing: Whether cells that a completed run fills are left out.
        max_hours: No further cell starts once these have passed, or None.
    """
    cells = matrix.missing() if only_missing else list(matrix.cells)
    console.print(f"{len(cells)} of {len(matrix.cells)} cells to train")
    started, failed = time.perf_counter(), dict[str, str]()
    for number, cell in enumerate(cells, start=1):
        hours = (time.perf_counter() - started) / 3600
        if max_hours is not None and hours >= max_hours:
            left = len(cells) - number + 1
            console.print(f"{hours:.2f} hours have passed: {left} cells are left for --only-missing", style="yellow")
            break
        console.rule(f"{number} of {len(cells)}: {cell.name}")
        reason = _train(cell, matrix.source.digest, command, console)
        if reason:
            failed[cell.name] = reason
            console.print(f"{cell.name} failed: {reason}", style="red", soft_wrap=True)
        write_table(matrix, failed)
    table, notes = write_table(matrix, failed)
    console.print(terminal_matrix(table))
    console.print("\n".join(notes))
    console.print(f"Table: {matrix.models_dir / MATRIX_MD}", soft_wrap=True)
    return failed


def _train(cell: Cell, source_digest: str, command: list[str], console: Console) -> str | None:
    """Train or continue a cell; return why it failed, or None. What the user breaks off is broken off."""
    try:
        unfinished = unfinished_run(cell, source_digest)
        if unfinished is None:
            run(cell.config, command, console)
        else:
            console.print(f"continuing {unfinished}", soft_wrap=True)
            resume(*find_resumable(cell.config, str(unfinished)), command, console)
    except CrystrataError as error:
        return str(error)
    except Exception as error:  # a defect met by this one cell, recorded in its manifest: the others go on
        console.print_exception()
        return f"{type(error).__name__}: {error}"
    return None


def write_table(matrix: Matrix, failed: dict[str, str]) -> tuple[pd.DataFrame, list[str]]:
    """Write the table of all cells that completed runs fill; return it with the notes under it."""
    entries = read_registry(matrix.models_dir)
    asked, filled = {cell.tier for cell in matrix.cells}, 0
    maes: dict[tuple[str, str], dict[str, float]] = {}
    for cell in matrix.known:
        entry = completed_run(cell, entries, matrix.source.digest)
        if entry is None and cell.tier not in asked:
            continue
        column = maes.setdefault((cell.tier, cell.kind), {})
        if entry is not None:
            column |= entry.test_mae
            filled += 1
    notes = [f"Source: {matrix.source.name}; {filled} of {len(matrix.known)} cells.", CAPTION]
    notes += [DEMO_CAPTION] if matrix.source.demo else []
    notes += [f"Failed: {name}: {reason}" for name, reason in failed.items()]
    table = matrix_table(maes)
    write_matrix(matrix.models_dir, table, notes)
    return table, notes
