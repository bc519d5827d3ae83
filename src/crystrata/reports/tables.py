"""The closing table of a run: MAE per property beside the baselines, as csv, markdown and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from crystrata.files import write_text
from crystrata.properties import get_property
from crystrata.runs.directory import TABLE_CSV, TABLE_MD

CAPTION = (
    "val and test: this run's parts; median and MAD: error on test of predicting the training median and mean; "
    "* published figures are on the official test part of each property and only give the scale."
)
OFFICIAL_CAPTION = (
    "MAE on whole official tests: these compare with the leaderboard, as long as the protocol of training is told; "
    "ids: crystals of the test; n: those with a label."
)
INTERVAL_CAPTION = (
    "coverage: share of the test labels within the interval; width: mean width; metals: crystals with a predicted "
    "gap of zero. Intervals come from the errors on the validation part; -: too few labels there."
)
DEMO_CAPTION = "DEMO: labels are semi-empirical relations, not DFT; the figures say nothing about real crystals."


def mae_table(results: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per property from the content of `results.json`."""
    rows = []
    for name, parts in results["properties"].items():
        record, test, val = get_property(name), parts.get("test"), parts.get("val")
        rows.append(
            {
                "property": name,
                "unit": record.unit,
                "n test": test["n"] if test else 0,
                "val MAE": val["mae"] if val else None,
                "test MAE": test["mae"] if test else None,
                "MAD": test["mad"] if test else None,
                "median": test["median_mae"] if test else None,
                "published CGCNN": record.published.cgcnn if record.published else None,
                "published ALIGNN": record.published.alignn if record.published else None,
            }
        )
    return pd.DataFrame(rows)


def official_table(results: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per official test that the run answers in whole; none under another protocol."""
    rows = [
        {
            "benchmark": benchmark,
            "property": figures["property"],
            "unit": get_property(figures["property"]).unit,
            "ids": figures["ids"],
            "n": figures["n"],
            "MAE": figures["mae"],
            "published CGCNN": figures["cgcnn"],
            "published ALIGNN": figures["alignn"],
        }
        for benchmark, figures in results.get("official_tests", {}).items()
    ]
    return pd.DataFrame(rows)


def interval_table(results: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per property and level: how the intervals do on the test part; none without intervals."""
    rows = []
    for name, figures in results.get("intervals", {}).items():
        for level, groups in (figures["levels"] if figures else {"-": {}}).items():
            row = {"property": name, "unit": get_property(name).unit, "level [%]": level}
            for group in ("all", "metals", "non-metals"):
                found, words = groups.get(group, {}), "" if group == "all" else f", {group}"
                coverage = found.get("coverage")
                row[f"coverage [%]{words}"] = None if coverage is None else 100 * coverage
                row[f"width{words}"] = found.get("width")
            rows.append(row)
    return pd.DataFrame(rows)


def write_tables(run: Path, results: Mapping[str, Any]) -> None:
    """Write the table into a run directory, as csv and markdown."""
    table, notes = mae_table(results), captions(results)
    comment = "".join(f"# {note}\n" for note in notes if note == DEMO_CAPTION)
    write_text(run / TABLE_CSV, comment + table.to_csv(index=False))
    official = official_table(results)
    whole = f"\n## Official tests\n\n{markdown(official)}\n{OFFICIAL_CAPTION}\n" if len(official) else ""
    intervals = interval_table(results)
    if len(intervals):
        whole += f"\n## Intervals\n\n{markdown(intervals)}\n{INTERVAL_CAPTION}\n"
    write_text(run / TABLE_MD, markdown(table) + "\n" + "\n\n".join(notes) + "\n" + whole)


def markdown(table: pd.DataFrame) -> str:
    """Return a table as markdown; numbers with four significant digits."""
    lines = [list(table.columns), ["---"] * table.shape[1]]
    lines += [[cell_text(value) for value in row] for row in table.itertuples(index=False)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def terminal_table(results: Mapping[str, Any]) -> Table:
    """Return the table for a terminal of 80 columns; a test MAE below the median baseline is green."""
    shown = Table(
        title="Mean absolute error",
        box=SIMPLE_HEAD,
        pad_edge=False,
        caption="\n".join(captions(results)),
        caption_justify="left",
    )
    for column in ("property", "val", "test", "median", "MAD", "CGCNN*", "ALIGNN*"):
        shown.add_column(column, justify="left" if column == "property" else "right", no_wrap=True)
    for row in mae_table(results).to_dict("records"):
        values = [row[key] for key in ("val MAE", "test MAE", "median", "MAD", "published CGCNN", "published ALIGNN")]
        cells = [Text(cell_text(value, 3)) for value in values]
        if pd.notna(row["test MAE"]):
            cells[1].stylize("green" if row["test MAE"] < row["median"] else "yellow")
        shown.add_row(Text(get_property(row["property"]).column), *cells)
    return shown


def terminal_official(results: Mapping[str, Any]) -> Table:
    """Return the table of the official tests for a terminal of 80 columns."""
    shown = Table(
        title="Official tests", box=SIMPLE_HEAD, pad_edge=False, caption=OFFICIAL_CAPTION, caption_justify="left"
    )
    for column in ("benchmark", "ids", "MAE", "CGCNN", "ALIGNN"):
        shown.add_column(column, justify="left" if column == "benchmark" else "right", no_wrap=True)
    for row in official_table(results).to_dict("records"):
        title = f"{row['benchmark']} [{row['unit']}]" if row["unit"] else row["benchmark"]
        figures = [cell_text(row[key], 4) for key in ("MAE", "published CGCNN", "published ALIGNN")]
        shown.add_row(title, str(row["ids"]), *figures)
    return shown


def captions(results: Mapping[str, Any]) -> list[str]:
    """Return the notes that belong under every table of these results."""
    return [CAPTION, DEMO_CAPTION] if results["demo"] else [CAPTION]


def cell_text(value: Any, digits: int = 4) -> str:
    """Return a value as it stands in a table: significant digits of a number, `-` for what is unknown."""
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
