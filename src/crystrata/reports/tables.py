"""The closing table of a run: MAE per property beside the baselines, as csv, markdown and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crystrata.files import write_text
from crystrata.jarvis_properties import PUBLISHED
from crystrata.runs.directory import TABLE_CSV, TABLE_MD

CAPTION = "val and test: this run's parts; median and MAD: error on test of predicting the training median and mean"
PUBLISHED_CAPTION = "* published figures are on the official test part of each property and only give the scale"
_PUBLISHED = {"published CGCNN": "CGCNN*", "published ALIGNN": "ALIGNN*"}
OFFICIAL_CAPTION = (
    "MAE on whole official tests: these compare with the leaderboard, as long as the protocol of training is given; "
    "ids: crystals of the test; n: those with a label."
)
INTERVAL_CAPTION = (
    "coverage: share of the test labels within the interval; width: mean width; metals: crystals with a predicted "
    "gap of zero. Intervals come from the errors on the validation part; -: too few labels there."
)
_METRICS = (
    # what the metrics hold, what the table calls it, the baseline among the metrics
    ("mae", "mean absolute error", "median_mae"),
    ("accuracy", "accuracy", "majority_accuracy"),
    ("mse", "mean squared error / variance", ""),
)
DEMO_CAPTION = "DEMO: labels are semi-empirical relations, not DFT; the figures say nothing about real crystals."


def mae_table(results: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per task with an absolute error from the content of `results.json`.

    The columns of published errors are there where any task has one.
    """
    rows = []
    for name, parts in results["tasks"].items():
        test, val = parts.get("test"), parts.get("val")
        if any("mae" not in (part or {"mae": 0}) for part in (test, val)):
            continue
        published = PUBLISHED.get(parts.get("benchmark", ""))
        rows.append(
            {
                "property": name,
                "unit": parts["unit"],
                "n test": test["n"] if test else 0,
                "val MAE": val["mae"] if val else None,
                "test MAE": test["mae"] if test else None,
                "MAD": test["mad"] if test else None,
                "median": test["median_mae"] if test else None,
                "published CGCNN": published.cgcnn if published else None,
                "published ALIGNN": published.alignn if published else None,
            }
        )
    table = pd.DataFrame(rows)
    return table.drop(columns=[title for title in _PUBLISHED if rows and table[title].isna().all()])


def other_table(results: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per task that is compared by another metric than an absolute error."""
    rows = []
    for name, parts in results["tasks"].items():
        val, test = parts.get("val") or {}, parts.get("test") or {}
        metric = next((row for row in _METRICS if row[0] in val or row[0] in test), None)
        if metric is not None and metric[0] != "mae":
            key, words, baseline = metric
            figures = {"val": val.get(key), "test": test.get(key), "baseline": test.get(baseline)}
            rows.append({"task": name, "metric": words, "n test": test.get("n", 0), **figures})
    return pd.DataFrame(rows)


def official_table(results: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per official test that the run answers in whole; none under another protocol."""
    rows = [
        (name, found["property"], results["tasks"][found["property"]]["unit"],
         *(found[key] for key in ("ids", "n", "mae", "cgcnn", "alignn")))
        for name, found in results.get("official_tests", {}).items()
    ]  # fmt: skip
    titles = ["benchmark", "property", "unit", "ids", "n", "MAE", *_PUBLISHED]
    return pd.DataFrame(rows, columns=titles)


def interval_table(results: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per property and level: how the intervals do on the test part; none without intervals."""
    rows = []
    for name, figures in results.get("intervals", {}).items():
        for level, groups in (figures["levels"] if figures else {"-": {}}).items():
            row = {"property": name, "unit": results["tasks"][name]["unit"], "level [%]": level}
            for group in ("all", "metals", "non-metals"):
                found, words = groups.get(group, {}), "" if group == "all" else f", {group}"
                coverage = found.get("coverage")
                row[f"coverage [%]{words}"] = None if coverage is None else 100 * coverage
                row[f"width{words}"] = found.get("width")
            rows.append({**row, "half width of all": groups.get("half_width")})
    return pd.DataFrame(rows)


def further_tables(results: Mapping[str, Any]) -> list[tuple[str, str, pd.DataFrame]]:
    """Return title, note and content of the tables that stand below the errors of a run, where it has any."""
    tables = [
        ("Other metrics", "", other_table(results)),
        ("Official tests", OFFICIAL_CAPTION, official_table(results)),
        ("Intervals", INTERVAL_CAPTION, interval_table(results)),
    ]
    return [table for table in tables if len(table[2])]


def write_tables(run: Path, results: Mapping[str, Any]) -> None:
    """Write the table into a run directory, as csv and markdown."""
    table, notes = mae_table(results), captions(results)
    comment = "".join(f"# {note}\n" for note in notes if note == DEMO_CAPTION)
    write_text(run / TABLE_CSV, comment + table.to_csv(index=False))
    further = "".join(
        f"\n## {title}\n\n{markdown(part)}" + (f"\n{note}\n" if note else "")
        for title, note, part in further_tables(results)
    )
    write_text(run / TABLE_MD, markdown(table) + "\n" + "\n\n".join(notes) + "\n" + further)


def markdown(table: pd.DataFrame) -> str:
    """Return a table as markdown; numbers with four significant digits."""
    lines = [list(table.columns), ["---"] * table.shape[1]]
    lines += [[cell_text(value) for value in row] for row in table.itertuples(index=False)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def terminal_table(results: Mapping[str, Any]) -> Table:
    """Return the table for a terminal of 80 columns; a test MAE below the median baseline is green."""
    shown = Table(
        title="Mean absolute error", box=SIMPLE_HEAD, pad_edge=False, caption="\n".join(captions(results)),
        caption_justify="left",
    )  # fmt: skip
    titles, table = {"val MAE": "val", "test MAE": "test", "median": "median", "MAD": "MAD"}, mae_table(results)
    titles |= {key: title for key, title in _PUBLISHED.items() if key in table}
    shown.add_column("property", overflow="fold")  # a long name takes two lines: figures stay whole
    for column in titles.values():
        shown.add_column(column, justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        cells = [Text(cell_text(row[key], 3)) for key in titles]
        if pd.notna(row["test MAE"]):
            cells[1].stylize("green" if row["test MAE"] < row["median"] else "yellow")
        shown.add_row(Text(f"{row['property']} [{row['unit']}]" if row["unit"] else row["property"]), *cells)
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
    published = not set(_PUBLISHED).isdisjoint(mae_table(results))
    caption = f"{CAPTION}; {PUBLISHED_CAPTION}." if published else f"{CAPTION}."
    return [caption, DEMO_CAPTION] if results["demo"] else [caption]


def cell_text(value: Any, digits: int = 4) -> str:
    """Return a value as it stands in a table: significant digits of a number, `-` for what is unknown."""
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def print_tables(results: Mapping[str, Any], console: Console) -> None:
    """Print the tables of a run: errors, metrics of tasks of another kind, official tests."""
    if len(table := mae_table(results)):
        console.print(terminal_table(results))
    shown = set(table["property"]) if len(table) else set()
    others = {name: parts for name, parts in results["tasks"].items() if name not in shown}
    if others:
        part = "test" if any(parts["test"] for parts in others.values()) else "val"
        console.print(part_table(f"{part} part", {name: parts[part] for name, parts in others.items()}))
    if results["official_tests"]:
        console.print(terminal_official(results))


def part_table(title: str, metrics: Mapping[str, Mapping[str, Any] | None]) -> Table:
    """Return one row per task: labels, metric, and that of the training median or class."""
    table = Table(title=title, box=SIMPLE_HEAD)
    for column in ("", "labels", "metric", "value", "baseline"):
        table.add_column(column, justify="right" if column in ("value", "baseline") else "left")
    for name, found in metrics.items():
        if found is None:
            table.add_row(name, "0", "-", "-", "-")
            continue
        key, words, baseline = next(row for row in _METRICS if row[0] in found)
        table.add_row(name, str(found["n"]), words, cell_text(found[key]), cell_text(found.get(baseline)))
    return table
