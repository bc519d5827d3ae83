"""Tables of whole official tests of the JARVIS leaderboard: our networks beside baselines and published models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from crystrata.datasets.splits.published import SUITE
from crystrata.jarvis_properties import PUBLISHED, Published, get_property
from crystrata.reports.tables import INTERVAL_CAPTION, cell_text, interval_table, markdown
from finished_runs import FinishedRun, heading, of

RULES = {"dfpt_piezo_max_dij": ("zero where the crystal has an inversion centre, else the median", 12.93)}
"""Benchmark -> a baseline that knows no training but symmetry, and its test MAE."""

COMPONENTS = ("epsx", "epsy", "epsz")
"""Tests of one property, which count once: by their mean."""

_EHULL = """
The official 2021 label `ehull` is no energy above the convex hull: it is, crystal by crystal, an affine function of the
formation energy, the distance of a rescaled energy from a hull per chemical system, as we found in the release
(`src/crystrata/hull/conventions.py`). The row is derived from the predicted formation energy and that hull,
rebuilt from training energies alone: this knowledge, not a better network, makes it.
"""

_STARTS = """\
Networks, one for each benchmark. Hours are their own: what a network cost whose weights a run started from comes on
top. A start never saw a tested crystal; validation crystals that it saw are left out of validation.
"""


@dataclass(frozen=True)
class Answer:
    """What one official test says, in the unit of its label.

    Attributes:
        test: Benchmark, or words for several.
        unit: Unit of the label.
        ids: Crystals of the test.
        labelled: Those with a label.
        median: MAE of predicting the median training label, or None.
        published: Published errors.
        mae: Test MAE of the run that answers.
        cgcnn: Test MAE of our CGCNN on the same parts, or None.
    """

    test: str
    unit: str
    ids: int
    labelled: int
    median: float | None
    published: Published
    mae: float
    cgcnn: float | None

    def below(self, figure: float) -> bool:
        """Return whether the whole test is answered with a smaller error than this one."""
        return self.labelled == self.ids and self.mae < figure

    def row(self) -> dict[str, Any]:
        """Return the row of the table."""
        median, text = cell_text(self.median), cell_text(self.mae)
        partly = f"{text} (labels of {self.labelled})" if self.labelled < self.ids else text
        return {
            "official test": f"{self.test} [{self.unit}]" if self.unit else self.test,
            "ids": self.ids,
            "median baseline": f"{median}; symmetry {RULES[self.test][1]}" if self.test in RULES else median,
            "CGCNN retrained": self.published.cgcnn,
            "ALIGNN": self.published.alignn,
            "best published": f"{cell_text(self.published.best)} {self.published.best_model}",
            "our CGCNN": self.cgcnn,
            "ours": f"**{text}**" if self.below(self.published.best) else partly,
        }


def official_section(runs: Sequence[FinishedRun]) -> str:
    """Return the section of runs that share their parts: protocol, answers, the tests won, intervals and networks."""
    cgcnn, ours = of(runs, "cgcnn"), of(runs, "e3nn") or runs[0]
    answers = official_answers(ours, None if cgcnn is ours else cgcnn)
    table = pd.DataFrame(answer.row() for answer in answers).dropna(axis="columns", how="all")
    networks = pd.DataFrame(row for run in runs for row in run.rows()).fillna("")
    intervals = interval_table(ours.results)
    held = f"\nIntervals of {ours.name} on its test part:\n\n{markdown(intervals)}\n{INTERVAL_CAPTION}\n"
    return (
        f"## Protocol {heading(runs)}\n\n{markdown(table)}\n{_count(answers)}\n"
        f"{_EHULL if any(answer.test == 'ehull' for answer in answers) else ''}"
        f"\nNetworks:\n\n{markdown(networks)}{held if len(intervals) else ''}"
    )


def benchmarks_section(runs: Sequence[FinishedRun]) -> str:
    """Return the section of runs that each have the parts of one leaderboard benchmark: one table of all."""
    answers = sorted((one for run in runs for one in official_answers(run, None)), key=_place)
    table = pd.DataFrame(answer.row() for answer in answers).dropna(axis="columns", how="all")
    networks = pd.DataFrame(
        {**row, "protocol": run.protocol} if place == 0 else row for run in runs for place, row in enumerate(run.rows())
    ).fillna("")
    words = runs[0].record.words
    ehull = _EHULL if any(answer.test == "ehull" for answer in answers) else ""
    return (
        f"## Protocol {runs[0].record.title}\n\n{words[0].upper()}{words[1:]}.\n\n"
        f"{markdown(table)}\n{_count(answers)}\n{ehull}\n{_STARTS}\n{markdown(networks)}"
    )


def _place(answer: Answer) -> int:
    """Return the place of a test in the suite; the mean of several stands behind the last of them."""
    return SUITE.index(answer.test.removesuffix(": mean").split(", ")[-1])


def official_answers(ours: FinishedRun, cgcnn: FinishedRun | None) -> list[Answer]:
    """Return the answers to all official tests of the suite that a run holds whole, and the mean of `COMPONENTS`.

    Args:
        ours: The run that answers.
        cgcnn: Our CGCNN on the same parts.
    """
    answers = []
    for test in SUITE:
        if test in ours.results["official_tests"]:
            answers.append(_answer(test, ours, cgcnn))
        components = [answer for answer in answers if answer.test in COMPONENTS]
        if test == COMPONENTS[-1] and len(components) == len(COMPONENTS):
            answers.append(_mean(components))
    return answers


def _answer(test: str, run: FinishedRun, baseline: FinishedRun | None) -> Answer:
    figure = run.results["official_tests"][test]
    return Answer(
        test, get_property(figure["property"]).unit, figure["ids"], figure["n"], figure.get("median_mae"),
        PUBLISHED[test], figure["mae"], baseline.results["official_tests"][test]["mae"] if baseline else None,
    )  # fmt: skip


def _mean(answers: Sequence[Answer]) -> Answer:
    """Return the mean over the tests of one property, which one network answers on the same crystals."""
    first, published = answers[0], [answer.published for answer in answers]
    models = " and ".join(dict.fromkeys(one.best_model for one in published))
    return Answer(
        f"{', '.join(answer.test for answer in answers)}: mean", first.unit, first.ids,
        min(answer.labelled for answer in answers), _mean_of([answer.median for answer in answers]),
        Published(
            fmean(one.cgcnn for one in published), fmean(one.alignn for one in published),
            fmean(one.best for one in published), models,
        ),
        fmean(answer.mae for answer in answers), _mean_of([answer.cgcnn for answer in answers]),
    )  # fmt: skip


def _mean_of(figures: Sequence[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return fmean(known) if len(known) == len(figures) else None


def _count(answers: Sequence[Answer]) -> str:
    """Return on how many properties ours is below each published column; those of several tests count by the mean."""
    meant = {test for answer in answers if answer.test.endswith(": mean") for test in COMPONENTS}
    counted = [answer for answer in answers if answer.test not in meant]
    cgcnn, alignn, best = (
        sum(answer.below(getattr(answer.published, name)) for answer in counted) for name in ("cgcnn", "alignn", "best")
    )
    ending = "y" if len(counted) == 1 else "ies"
    return (
        f"Of {len(counted)} propert{ending}, ours is below the retrained CGCNN on {cgcnn}, below ALIGNN on {alignn}, "
        f"below the best published figure on {best}."
    )
