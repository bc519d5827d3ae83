"""Figures of a scenario: predictions and elements of each path, and the composition from each seed.

B compositions, n elements, T objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crystrata.design.formulas import LEAST_FRACTION, composition_text
from crystrata.design.objectives import Objective
from crystrata.design.study_paths import PathResult
from crystrata.elements import SYMBOLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ELEMENTS = 25  # columns of the heat map
_WRITTEN = 6  # elements of a composition that a listing names
_RAMPS = {"latent": ("YlOrRd", 0.3, 0.95), "composition": ("viridis", 0.0, 0.95)}  # colours from here to there
_SEED, _NEW, _GOAL = "0.55", "#c0271a", "#c0271a"


@dataclass(frozen=True)
class ScenarioResult:
    """Results of a scenario and of each of its paths.

    Attributes:
        objectives: Classes first.
        seeds: Formulas of the seeds.
        seed_weights: Their atomic fractions, (B, n).
        seed_values: Predictions for them, (B, T).
    """

    name: str
    objectives: Sequence[Objective]
    seeds: Sequence[str]
    seed_weights: np.ndarray
    seed_values: np.ndarray
    paths: Sequence[PathResult]

    @property
    def titles(self) -> list[str]:
        """Title of each objective: `P(metal)`, `formation_energy`."""
        return [f"P({' or '.join(one.classes)})" if one.classes else one.task for one in self.objectives]

    @property
    def goals(self) -> list[float]:
        """Target value of each objective: 1 for classes, NaN for an extreme."""
        values = [1.0 if one.classes else one.value for one in self.objectives]
        return [value if isinstance(value, float) else np.nan for value in values]


def path_title(name: str) -> str:
    """Return the name of a path as a title: `latent, alpha 0.5`."""
    family, _, rest = name.partition("_")
    return f"{family}, {rest.replace('_', ' ')}"


def path_colours(names: Sequence[str]) -> list[tuple[float, ...]]:
    """Return the colour of each path, from one colour map for each kind of search."""
    import matplotlib

    colours = []
    for name in names:
        alike = [other for other in names if _family(other) == _family(name)]
        ramp, first, last = _RAMPS[_family(name)]
        colours.append(matplotlib.colormaps[ramp](np.linspace(first, last, len(alike))[alike.index(name)]))
    return colours


def _family(name: str) -> str:
    return name.partition("_")[0]


def comparison_figure(result: ScenarioResult) -> Figure:
    """Return bars of the mean and standard deviation over the compositions of each path, with a line at each target."""
    from matplotlib.figure import Figure

    names = ["seeds", *(path_title(path.name) for path in result.paths)]
    colours = [_SEED, *path_colours([path.name for path in result.paths])]
    tables = [result.seed_values, *(path.values for path in result.paths)]
    figure = Figure(figsize=(1.9 + 2.7 * len(result.objectives), 0.9 + 0.32 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(result.objectives), sharey=True, squeeze=False)[0]
    for column, (panel, title, goal) in enumerate(zip(panels, result.titles, result.goals, strict=True)):
        values = np.array([[table[:, column].mean(), table[:, column].std()] for table in tables])
        panel.barh(range(len(names)), values[:, 0], xerr=values[:, 1], color=colours, height=0.7,
                   error_kw={"elinewidth": 0.8, "capsize": 2, "ecolor": "0.25"})  # fmt: skip
        if np.isfinite(goal):
            panel.axvline(goal, color=_GOAL, linestyle="--", linewidth=1)
            title = f"{title}, target {goal:.3g}"
        panel.set_title(title, fontsize=9)
        panel.axvline(0, color="0.6", linewidth=0.6)
        panel.tick_params(labelsize=8)
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0].invert_yaxis()
    figure.suptitle(f"{result.name}: predictions for the compositions, mean and standard deviation", fontsize=10)
    return figure


def element_figure(result: ScenarioResult) -> Figure:
    """Return a heat map of how many compositions of each path have an element; elements of no seed are red."""
    from matplotlib.figure import Figure

    tables = [result.seed_weights, *(path.weights for path in result.paths)]
    counts = np.array([(table >= LEAST_FRACTION).sum(axis=0) for table in tables])
    order = np.argsort(-counts[1:].sum(axis=0), kind="stable")[:_ELEMENTS]
    order = order[counts[1:, order].sum(axis=0) > 0]
    names = ["seeds", *(path_title(path.name) for path in result.paths)]
    figure = Figure(figsize=(2.6 + 0.3 * len(order), 1.3 + 0.3 * len(names)), layout="constrained")
    panel = figure.subplots()
    most = max(len(table) for table in tables)
    panel.imshow(counts[:, order], cmap="Blues", vmin=0, vmax=most, aspect="auto")
    for (row, column), count in np.ndenumerate(counts[:, order]):
        if count:
            colour = "white" if count > 0.6 * most else "0.2"
            panel.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    panel.set_xticks(range(len(order)), [SYMBOLS[place] for place in order], fontsize=9)
    for label, place in zip(panel.get_xticklabels(), order, strict=True):
        if not counts[0, place]:
            label.set(color=_NEW, fontweight="bold")
    panel.set_yticks(range(len(names)), names, fontsize=8)
    panel.set_title(f"{result.name}: compositions with each element (red: in no seed)", fontsize=10)
    return figure


def scatter_figure(result: ScenarioResult) -> Figure:
    """Return a scatter plot of the first objective over each other one; seeds are grey."""
    from matplotlib.figure import Figure

    others = range(1, len(result.objectives))
    figure = Figure(figsize=(1.9 + 3.3 * len(others), 3.4), layout="constrained")
    panels = figure.subplots(1, len(others), sharey=True, squeeze=False)[0]
    colours = path_colours([path.name for path in result.paths])
    for panel, column in zip(panels, others, strict=True):
        panel.scatter(result.seed_values[:, column], result.seed_values[:, 0], s=40, color=_SEED, marker="s",
                      label="seeds", zorder=1)  # fmt: skip
        for path, colour in zip(result.paths, colours, strict=True):
            marker = "o" if _family(path.name) == "latent" else "^"
            panel.scatter(path.values[:, column], path.values[:, 0], s=22, color=[colour], marker=marker,
                          edgecolor="0.2", linewidth=0.3, label=path_title(path.name), zorder=2)  # fmt: skip
        _goal_lines(panel, result.goals[column], result.goals[0])
        panel.set_xlabel(result.titles[column], fontsize=9)
        panel.tick_params(labelsize=8)
        panel.grid(linewidth=0.3)
    panels[0].set_ylabel(result.titles[0], fontsize=9)
    figure.suptitle(f"{result.name}: predictions for the compositions; dashed: target", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=7, frameon=False)
    return figure


def _goal_lines(panel: Axes, across: float, up: float) -> None:
    if np.isfinite(across):
        panel.axvline(across, color=_GOAL, linestyle="--", linewidth=0.9, zorder=0)
    if np.isfinite(up):
        panel.axhline(up, color=_GOAL, linestyle="--", linewidth=0.9, zorder=0)


def listing_figure(result: ScenarioResult, path: PathResult) -> Figure:
    """Return a table of the result from each seed: composition, formula, first objective, changes of the others."""
    from matplotlib.figure import Figure

    changes = [f"change of {name}" for name in result.titles[1:]]
    head = ["seed", "composition", "nearest formula", result.titles[0], *changes]
    change = path.values - result.seed_values
    rows = [
        [seed, shortened(weights), formula, f"{values[0]:.3f}", *(f"{delta:+.3g}" for delta in moved[1:])]
        for seed, weights, formula, values, moved in zip(
            result.seeds, path.weights, path.formulas, path.values, change, strict=True
        )
    ]
    widths = np.array([max(len(line[column]) for line in [head, *rows]) + 2 for column in range(len(head))])
    figure = Figure(figsize=(0.075 * widths.sum() + 0.3, 0.55 + 0.21 * (len(rows) + 1)))
    panel = figure.add_axes((0.01, 0.0, 0.98, 0.98))
    panel.axis("off")
    panel.set(xlim=(0, widths.sum()), ylim=(len(rows) + 1.0, -1.6))
    panel.text(0, -1.1, f"{result.name}: {path_title(path.name)}, from seed to composition", fontsize=10, va="center")
    starts = np.concatenate([[0], widths.cumsum()[:-1]])
    for height, line in enumerate([head, *rows]):
        for start, text in zip(starts, line, strict=True):
            weight = "bold" if height == 0 else "normal"
            panel.text(start, height, text, fontsize=7.5, family="monospace", va="center", fontweight=weight)
    panel.axhline(0.5, color="0.5", linewidth=0.6)
    return figure


def shortened(weights: np.ndarray) -> str:
    """Return a composition (n,) as text, limited to its largest amounts."""
    parts = composition_text(weights).split()
    more = len(parts) - _WRITTEN
    return " ".join(parts[:_WRITTEN]) + (f" +{more} more" if more > 0 else "")
