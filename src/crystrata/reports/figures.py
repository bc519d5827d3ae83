"""Figures of a run: predicted against true values, confusion, curves, learning curves, and what is forgotten.

n materials, P tasks, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crystrata.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 3.2  # [inch] of one panel
_CURVES = 6
_LOWEST = -1.0  # R2 is drawn down to it: a head that has lost its task may be anywhere below
_LOG_SPREAD = 30.0  # a property whose 99th percentile is this many times its median is drawn on a symmetric log scale


def parity_figure(
    tasks: Sequence[Task], truth: Mapping[str, np.ndarray], predicted: Mapping[str, np.ndarray], title: str
) -> Figure:
    """Return one panel per task of one number, predicted over true values (n,), NaN where unknown, with the MAE."""
    from matplotlib.figure import Figure

    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(columns * _WIDTH, rows * _WIDTH + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, task in zip(panels, tasks, strict=False):
        parity_panel(panel, task.words, task.unit, truth[task.name], predicted[task.name])
    for panel in panels[len(tasks) :]:
        panel.axis("off")
    figure.suptitle(title, fontsize=11)
    return figure


def parity_panel(panel: Axes, title: str, unit: str, truth: np.ndarray, predicted: np.ndarray) -> None:
    """Draw predicted over true values, (n,), NaN where unknown, with the MAE in a unit that may be empty."""
    known = np.isfinite(truth)
    truth, predicted = truth[known], predicted[known]
    panel.set_title(title, fontsize=9)
    if not len(truth):
        panel.text(0.5, 0.5, "no label in this part", ha="center", transform=panel.transAxes, fontsize=8)
        return
    panel.plot(truth, predicted, ".", markersize=2.5, alpha=0.35, color="#1f5fa8", rasterized=True)
    middle, far = np.median(np.abs(truth)), np.quantile(np.abs(truth), 0.99)
    if far > _LOG_SPREAD * max(middle, 1e-9) and middle > 0:
        panel.set_xscale("symlog", linthresh=middle)
        panel.set_yscale("symlog", linthresh=middle)
    low, high = np.quantile(np.concatenate([truth, predicted]), [0.001, 0.999])
    margin = 0.05 * (high - low) or 1.0  # all values may be one
    panel.set_xlim(low - margin, high + margin)
    panel.set_ylim(low - margin, high + margin)
    panel.plot([low - margin, high + margin], [low - margin, high + margin], color="0.4", linewidth=0.8)
    mae = f"MAE {float(np.abs(predicted - truth).mean()):.3g}{f' {unit}' if unit else ''}"
    panel.text(0.04, 0.95, f"{mae}\nn {len(truth)}", va="top", transform=panel.transAxes, fontsize=8)
    panel.set_xlabel(f"label{f' [{unit}]' if unit else ''}", fontsize=8)
    panel.set_ylabel("predicted", fontsize=8)
    panel.tick_params(labelsize=7)


def history_figure(history: Sequence[dict[str, Any]]) -> Figure:
    """Return the validation score and the error of each property, relative to its first value, over the epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in history]
    scores = [np.nan if record["val_score"] is None else record["val_score"] for record in history]
    left.plot(epochs, scores, "o-", color="#1f5fa8", markersize=2.5, linewidth=1)
    left.set_ylabel("validation, mean of MAE / MAD", fontsize=8)
    for name in history[0]["val_mae"]:
        values = [np.nan if record["val_mae"].get(name) is None else record["val_mae"][name] for record in history]
        right.plot(epochs, np.array(values) / (values[0] or 1.0), linewidth=1, label=name)
    right.set_ylabel("validation MAE / first epoch", fontsize=8)
    right.legend(fontsize=6, frameon=False)
    for panel in (left, right):
        panel.set_xlabel("epoch", fontsize=8)
        panel.tick_params(labelsize=7)
    return figure


def png_of(figure: Figure, dpi: int = 130) -> bytes:
    """Return a figure as PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def task_figure(name: str, table: pd.DataFrame, classes: Sequence[str] = ()) -> Figure:
    """Return the figure of one task: curves where the table has a coordinate, confusion for classes, else parity.

    The table has `true` and `pred`, with `key` and `t` for curves; `classes` are the K names of the classes.
    """
    if classes:
        return confusion_figure(name, table["true"].to_numpy(), table["pred"].to_numpy(), classes)
    if "t" in table:
        return curves_figure(name, table)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4, 3.4), layout="constrained")
    parity_panel(figure.subplots(), name, "", table["true"].to_numpy(), table["pred"].to_numpy())
    return figure


def confusion_figure(name: str, truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Figure:
    """Return the share of each true class, (n,), negative where unknown, predicted as each class; rows add up to 1."""
    from matplotlib.figure import Figure

    known = truth >= 0
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (truth[known].astype(int), predicted[known].astype(int)), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 1.8 + 0.45 * len(classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    panel = figure.subplots()
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "0.2"
        panel.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=7, color=colour)
    panel.set_xticks(range(len(classes)), classes, rotation=45, ha="right", fontsize=7)
    panel.set_yticks(range(len(classes)), classes, fontsize=7)
    panel.set_xlabel("predicted", fontsize=8)
    panel.set_ylabel("true", fontsize=8)
    panel.set_title(f"{name}, accuracy {np.trace(counts) / max(counts.sum(), 1):.3f}", fontsize=9)
    return figure


def curves_figure(name: str, table: pd.DataFrame) -> Figure:
    """Return some curves, true and predicted, from the best predicted one to the worst; columns `key`, `t`, ..."""
    from matplotlib.figure import Figure

    known = table.dropna(subset=["true"])
    errors = (known["pred"] - known["true"]).abs().groupby(known["key"]).mean().sort_values()
    places = np.linspace(0, len(errors) - 1, min(_CURVES, len(errors))).round().astype(int)
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    for panel, key in zip(panels, errors.index[places], strict=False):
        curve = known[known["key"] == key].sort_values("t")
        panel.plot(curve["t"], curve["true"], color="0.4", linewidth=1, label="true")
        panel.plot(curve["t"], curve["pred"], color="#1f5fa8", linewidth=1, label="predicted")
        panel.set_title(f"{key}, MAE {errors[key]:.3g}", fontsize=8)
        panel.tick_params(labelsize=7)
    for panel in panels[len(places) :]:
        panel.axis("off")
    panels[0].legend(fontsize=7, frameon=False)
    figure.suptitle(name, fontsize=10)
    return figure


def forgetting_figure(learned: Mapping[str, Sequence[Mapping[str, float]]], tasks: Sequence[str]) -> Figure:
    """Return the metric of each task on the test part over the steps, from where it was learned.

    `learned` has a panel for each title: of each step, task -> R2 or accuracy, the tasks in the order of learning.
    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.0 + 5.4 * len(learned), 4.4), layout="constrained")
    panels = figure.subplots(1, len(learned), squeeze=False, sharey=True)[0]
    colours = matplotlib.colormaps["turbo"](np.linspace(0.02, 0.98, len(tasks)))
    for panel, (title, results) in zip(panels, learned.items(), strict=True):
        for first, (task, colour) in enumerate(zip(tasks, colours, strict=True)):
            values = [float(np.clip(step[task], _LOWEST, 1)) for step in results[first:]]
            steps = range(first + 1, len(results) + 1)
            panel.plot(steps, values, "o-", markersize=3, linewidth=1, color=colour, label=task)
        panel.set_title(title, fontsize=9)
        panel.set_xticks(range(1, len(tasks) + 1), tasks, rotation=45, ha="right", fontsize=7)
        panel.set_xlabel("after learning", fontsize=8)
        panel.tick_params(axis="y", labelsize=7)
        panel.grid(axis="y", linewidth=0.3)
    panels[0].set_ylim(top=1.05)
    panels[0].set_ylabel(f"test R2 (accuracy of classes), not below {_LOWEST:g}", fontsize=8)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=6, frameon=False)
    return figure
