"""Tables of tests outside the training distribution: CGCNN and the E3NN, on chemistry or structures never seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from crystrata.jarvis_properties import NINE, get_property
from crystrata.reports.tables import markdown
from finished_runs import FinishedRun, by_parts, heading, of

OUTSIDE = ("by-chemical-system", "by-prototype")
"""Protocols whose tests lie outside the training distribution."""

TRACKS = {"cgcnn": "CGCNN", "e3nn": "E3NN"}
"""Algorithm -> title of its column."""

_HEAD = """## Outside the training distribution

Test MAE of one network for all properties, on test parts that share no chemical system, or no structure type, with
training. MAD: predicting the mean of the training labels; median: their median; ratio: E3NN over CGCNN, both trained
here on the same parts for as many epochs.
"""


def outside_section(runs: Sequence[FinishedRun]) -> str:
    """Return the section of runs under the protocols of `OUTSIDE`: for each split a table of errors and of networks."""
    text = _HEAD
    for group in by_parts(runs):
        tracks = {title: of(group, algorithm) for algorithm, title in TRACKS.items()}
        errors = pd.DataFrame(_row(name, tracks) for name in NINE)
        networks = markdown(pd.DataFrame(row for run in group for row in run.rows()).fillna(""))
        known = errors.dropna(axis="columns", how="all").dropna(subset=["MAD"])
        text += f"\n### {heading(group)}\n\n{markdown(known)}\n{networks}"
    return text


def _row(name: str, tracks: Mapping[str, FinishedRun | None]) -> dict[str, Any]:
    errors = {title: run.mae(name, "test") if run else None for title, run in tracks.items()}
    cgcnn, e3nn = errors.values()
    run = next(run for run in tracks.values() if run)
    figures = run.results["tasks"].get(name, {}).get("test") or {}
    return {
        "property": get_property(name).column,
        "MAD": figures.get("mad"),
        "median baseline": figures.get("median_mae"),
        **errors,
        "ratio": e3nn / cgcnn if e3nn is not None and cgcnn else None,
    }
