"""The model matrix: cell after cell trained, continued or found done, and its table of test MAEs.

The failure of one cell stops no other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crystrata.errors import CrystrataError
from crystrata.files import write_text
from crystrata.jarvis_properties import NINE, properties
from crystrata.reports.html import html_notes, html_page, html_table
from crystrata.reports.tables import DEMO_CAPTION, cell_text, markdown
from crystrata.runs.cells import Cell, completed_run, unfinished_run
from crystrata.runs.find import find_resumable
from crystrata.runs.registry import read_registry
from crystrata.sources.opening import open_source
from crystrata.sources.table import CrystalTable
from crystrata.workflows.run import resume, run

MATRIX_CSV, MATRIX_MD, MATRIX_HTML = "matrix.csv", "matrix.md", "matrix.html"
CAPTION = (
    "Test MAE in the unit of each property; '-' is not trained. The e3nn cells of a tier (single: one specialist per "
    "property; multi: one network for all nine) share the split; where a tier takes a sample, a specialist samples the "
    "crystals labelled for its property, and CGCNN may take another number. ehull is derived: its single cell is a "
    "second training of the network of formation_energy, less the hull of the training energies. Only figures on the "
    "same test part compare (split_digest in registry.csv)."
)


@dataclass(frozen=True)
class Matrix:
    """The cells of a matrix on one data source; `known` are all that the table shows where a run fills them."""

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
    """Open the data source that all cells share."""
    config = cells[0].config
    source = open_source(config.source, config.release, config.data_file, Path(config.data_dir), console)
    return Matrix(cells, known, source)


def run_matrix(
    matrix: Matrix, command: list[str], console: Console, *, only_missing: bool, max_hours: float | None
) -> dict[str, str]:
    """Train the cells one after another; return the names of those that failed with the reason.

    A cell with an unfinished run continues from its checkpoint. The table is rewritten after every cell. With
    `only_missing`, cells that a completed run fills are left out; after `max_hours` no further cell starts.
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
    """Train or continue a cell; return why it failed, or None. An interruption by the user ends the matrix."""
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
    """Write the table of all cells that completed runs fill, as csv, markdown and HTML; return it with its notes.

    It has one row per property and one column per tier and kind of cell.
    """
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
    columns: dict[str, list] = {"property": list(NINE), "unit": [record.unit for record in properties(NINE)]}
    for (tier, kind), values in maes.items():
        columns[f"{tier} {kind}"] = [values.get(name, float("nan")) for name in NINE]
    table, folder = pd.DataFrame(columns), matrix.models_dir
    comment = f"# {DEMO_CAPTION}\n" if matrix.source.demo else ""
    write_text(folder / MATRIX_CSV, comment + table.to_csv(index=False))
    write_text(folder / MATRIX_MD, "# Model matrix\n\n" + markdown(table) + "\n" + "\n\n".join(notes) + "\n")
    write_text(folder / MATRIX_HTML, html_page("Model matrix", html_table(table) + html_notes(notes)))
    return table, notes


def terminal_matrix(table: pd.DataFrame) -> Table:
    """Return the table for a terminal; of single-task and multi-task model of a tier the better one is green."""
    shown = Table(title="Test MAE", box=SIMPLE_HEAD)
    shown.add_column("property", no_wrap=True)
    for column in table.columns[2:]:
        shown.add_column(column.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        shown.add_row(row["property"], *(_shown(row, column) for column in table.columns[2:]))
    return shown


def _shown(row: Mapping[str, float], column: str) -> Text:
    text, (tier, kind) = cell_text(row[column], 3), column.split()
    rival = row.get(f"{tier} {'multi' if kind == 'single' else 'single'}", float("nan"))
    return Text(text, style="green" if kind != "cgcnn" and row[column] < rival else "")
