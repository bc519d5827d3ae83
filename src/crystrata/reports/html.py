"""The report of a run: one self-contained HTML page with table, figures and facts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from crystrata.files import write_text
from crystrata.reports.tables import captions, cell_text, further_tables, mae_table
from crystrata.runs.directory import REPORT

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c2330; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #d8dde6; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; } .demo { background: #fff3cd; padding: .6rem 1rem; border-left: 4px solid #e0a800; }
.note { color: #5a6475; font-size: .9rem; }
"""


def write_report(
    run: Path, title: str, results: Mapping[str, Any], facts: Mapping[str, Any], figures: Sequence[tuple[str, bytes]]
) -> None:
    """Write `report.html` into a run directory: tables of `results.json`, captioned PNGs, rows of the facts table."""
    tables = html_table(mae_table(results)) + "".join(
        f"<h2>{title}</h2>{html_notes([note] if note else [])}{html_table(table)}"
        for title, note, table in further_tables(results)
    )
    rows = "".join(f"<tr><td>{escape(str(key))}</td><td>{escape(str(value))}</td></tr>" for key, value in facts.items())
    images = "".join(
        f'<h2>{escape(caption)}</h2><img alt="{escape(caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for caption, png in figures
    )
    body = f"{html_notes(captions(results))}<h2>Errors</h2>{tables}{images}<h2>Run</h2><table>{rows}</table>"
    write_text(run / REPORT, html_page(title, body))


def html_page(title: str, body: str) -> str:
    """Return a self-contained page in the style of all reports."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{body}</html>\n"
    )


def html_table(table: pd.DataFrame) -> str:
    """Return a table with four significant digits, `-` for what is unknown."""
    return table.map(cell_text).to_html(index=False, border=0)


def html_notes(notes: Sequence[str]) -> str:
    """Return the notes that belong to a table as paragraphs; that the data are a demo stands out."""
    return "".join(f'<p class="{"demo" if note.startswith("DEMO") else "note"}">{escape(note)}</p>' for note in notes)
