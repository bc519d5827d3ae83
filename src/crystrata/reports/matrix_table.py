"""The table of the model matrix: test MAE of every property in every cell, as files and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from crystrata.files import write_text
from crystrata.jarvis_properties import NINE, properties
from crystrata.reports.html import html_notes, html_page, html_table
from crystrata.reports.tables import DEMO_CAPTION, cell_text, markdown

MATRIX_CSV, MATRIX_MD, MATRIX_HTML = "matrix.csv", "matrix.md", "matrix.html"
CAPTION = (
    "Test MAE in the unit of each property; '-' is not trained. The e3nn cells of a tier (single: one specialist per "
    "property; multi: one network for all nine) share the split; where a tier takes a sample, a specialist samples the "
    "crystals labelled for its property, and CGCNN may take another number. ehull is derived: its single cell is a "
    "second training of the network of formation_energy, less the hull of the training energies. Only figures on the "
    "same test part compare (split_digest in registry.csv)."
)


def matrix_table(maes: Mapping[tuple[str, str], Mapping[str, float]]) -> pd.DataFrame:
    """Return one row per property and one column per tier and kind of cell.

    Args:
        maes: (tier, kind) -> property -> test MAE, in the order of the columns.
    """
    columns: dict[str, list] = {
        "property": list(NINE),
        "unit": [record.unit for record in properties(NINE)],
    }
    for (tier, kind), values in maes.items():
        columns[f"{tier} {kind}"] = [values.get(name, float("nan")) for name in NINE]
    return pd.DataFrame(columns)


def write_matrix(folder: Path, table: pd.DataFrame, notes: Sequence[str]) -> None:
    """Write `matrix.csv`, `matrix.md` and `matrix.html` into the models folder.

    Args:
        folder: The models folder.
        table: See `matrix_table`.
        notes: Lines under the table.
    """
    comment = f"# {DEMO_CAPTION}\n" if DEMO_CAPTION in notes else ""
    write_text(folder / MATRIX_CSV, comment + table.to_csv(index=False))
    write_text(folder / MATRIX_MD, "# Model matrix\n\n" + markdown(table) + "\n" + "\n\n".join(notes) + "\n")
    write_text(folder / MATRIX_HTML, html_page("Model matrix", html_table(table) + html_notes(notes)))


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
