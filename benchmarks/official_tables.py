"""Tables of whole official tests of the JARVIS leaderboard: our networks beside baselines and published models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from crystrata.datasets.splits.leaderboard import SUITE
from crystrata.properties import get_property
from crystrata.published import PUBLISHED, Published
from crystrata.reports.tables import cell_text, markdown
from finished_runs import SELECTION, FinishedRun, answering, heading, hours, of

RULES = {"dfpt_piezo_max_dij": ("zero where the crystal has an inversion centre, else the median", 12.93)}
"""Benchmark -> a baseline that knows no training but symmetry, and its test MAE."""

COMPONENTS = ("epsx", "epsy", "epsz")
"""Tests of one property, which count once: by their mean."""

_EHULL = """
The official 2021 label `ehull` is no energy above the convex hull: it is, crystal by crystal, an affine function of the
formation energy, the distance of a rescaled energy from a hull per chemical system, as we found in the release
(`src/crystrata/crystals/hull/conventions.py`). The row is derived from the predicted formation energy and that hull,
rebuilt from training energies alone: this knowledge, not a better network, makes it.
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
        mae: Test MAE of the network that answers.
        network: Its name.
        cgcnn: Test MAE of our CGCNN on the same parts, or None.
    """

    test: str
    unit: str
    ids: int
    labelled: int
    median: float | None
    published: Published
    mae: float
    network: str
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
            "network": self.network,
        }


def official_section(runs: Sequence[FinishedRun]) -> str:
    """Return the section of runs that share their parts: protocol, answers, the tests won, and the networks."""
    ours = of(runs, "e3nn") or list(runs)
    answers = official_answers(ours, [run for run in runs if run not in ours])
    table = pd.DataFrame(answer.row() for answer in answers).dropna(axis="columns", how="all")
    rule = f"{SELECTION}\n" if len(ours) > 1 else ""
    made = next((run for run in ours if run.name == _network(answers, "ehull")), None)
    note = _EHULL if made and "ehull_official" not in made.trained else ""
    networks = markdown(pd.DataFrame(run.row() for run in runs))
    return (
        f"## Protocol {heading(runs)}\n{rule}\n{markdown(table)}\n{_count(answers)}\n{note}\n"
        f"Networks ({hours(ours)}{'' if ours == list(runs) else ', without CGCNN'}):\n\n{networks}"
    )


def official_answers(ours: Sequence[FinishedRun], baseline: Sequence[FinishedRun]) -> list[Answer]:
    """Return the answers to all official tests of the suite that our runs hold whole, and the mean of `COMPONENTS`.

    Args:
        ours: Runs that share their parts; for each test the best on validation answers.
        baseline: Runs of our CGCNN on the same parts.
    """
    answers = []
    for test in SUITE:
        run = _answering_test(ours, test)
        if run:
            answers.append(_answer(test, run, _answering_test(baseline, test)))
        components = [answer for answer in answers if answer.test in COMPONENTS]
        if test == COMPONENTS[-1] and len(components) == len(COMPONENTS):
            answers.append(_mean(components))
    return answers


def _answering_test(runs: Sequence[FinishedRun], test: str) -> FinishedRun | None:
    holding = [run for run in runs if test in run.results["official_tests"]]
    return answering(holding, holding[0].results["official_tests"][test]["property"]) if holding else None


def _answer(test: str, run: FinishedRun, baseline: FinishedRun | None) -> Answer:
    figure = run.results["official_tests"][test]
    return Answer(
        test, get_property(figure["property"]).unit, figure["ids"], figure["n"], figure.get("median_mae"),
        PUBLISHED[test], figure["mae"], run.name, baseline.results["official_tests"][test]["mae"] if baseline else None,
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
        fmean(answer.mae for answer in answers), first.network, _mean_of([answer.cgcnn for answer in answers]),
    )  # fmt: skip


def _mean_of(figures: Sequence[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return fmean(known) if len(known) == len(figures) else None


def _network(answers: Sequence[Answer], test: str) -> str | None:
    return next((answer.network for answer in answers if answer.test == test), None)


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
