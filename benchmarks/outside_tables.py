"""Tables of tests outside the training distribution: CGCNN and the E3NN, on chemistry or structures never seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from crystrata.properties import NINE, get_property
from crystrata.reports.tables import markdown
from finished_runs import SELECTION, FinishedRun, answering, by_parts, heading, of

OUTSIDE = ("by-chemical-system", "by-prototype")
"""Protocols whose tests lie outside the training distribution."""

WITHIN = ("random", "union")
"""Protocols whose figures may stand beside them, the first that is given."""

TRACKS = {"cgcnn": "CGCNN", "e3nn": "E3NN"}
"""Algorithm -> title of its column."""

_HEAD = f"""## Outside the training distribution

Test MAE of one network for all properties, on test parts that share no chemical system, or no structure type, with
training. MAD: predicting the mean of the training labels; median: their median; ratio: E3NN over CGCNN, both trained
here on the same parts. A column `... on {WITHIN[0]}` or `... on {WITHIN[1]}` is a run of as many epochs whose test part
is of the training distribution; its crystals are others, so the columns show the size of the step, no more.
{SELECTION}
"""


def outside_section(outside: Sequence[FinishedRun], within: Sequence[FinishedRun]) -> str:
    """Return the section: for each split a table of errors and one of networks.

    Args:
        outside: Runs under the protocols of `OUTSIDE`.
        within: Runs under those of `WITHIN`; of them stand beside a table those of the same number of epochs.
    """
    text = _HEAD
    for runs in by_parts(outside):
        beside = _beside(runs, within)
        errors = pd.DataFrame(_row(name, runs, beside) for name in NINE if answering(runs, name))
        networks = markdown(pd.DataFrame({"split": run.protocol, **run.row()} for run in [*runs, *beside]))
        text += f"\n### {heading(runs)}\n\n{markdown(errors.dropna(axis='columns', how='all'))}\n{networks}"
    return text


def _beside(runs: Sequence[FinishedRun], within: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Return the runs of as many epochs as those of their track, under one protocol, the first of `WITHIN`."""
    epochs = {(run.algorithm, run.config["epochs"]) for run in runs}
    alike = [run for run in within if (run.algorithm, run.config["epochs"]) in epochs]
    groups = sorted(by_parts(alike), key=lambda group: WITHIN.index(group[0].record.name))
    return groups[0] if groups else []


def _row(name: str, runs: Sequence[FinishedRun], beside: Sequence[FinishedRun]) -> dict[str, Any]:
    errors = {title: _test_mae(of(runs, algorithm), name) for algorithm, title in TRACKS.items()}
    cgcnn, e3nn = errors.values()
    figures = next(iter(runs)).results["properties"][name]["test"] or {}
    return {
        "property": get_property(name).column,
        "MAD": figures.get("mad"),
        "median baseline": figures.get("median_mae"),
        **errors,
        "ratio": e3nn / cgcnn if e3nn is not None and cgcnn else None,
        **{
            f"{title} on {beside[0].protocol}": _test_mae(of(beside, algorithm), name)
            for algorithm, title in TRACKS.items()
            if beside
        },
    }


def _test_mae(runs: Sequence[FinishedRun], name: str) -> float | None:
    run = answering(runs, name)
    return run.mae(name, "test") if run else None
