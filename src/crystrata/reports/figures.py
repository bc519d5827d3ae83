"""Figures of a run: predicted against true values, and learning curves. n crystals, P properties."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from crystrata.properties import get_property

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 3.2  # [inch] of one panel
_LOG_SPREAD = 30.0  # a property whose 99th percentile is this many times its median is drawn on a symmetric log scale


def parity_figure(properties: Sequence[str], truth: np.ndarray, predicted: np.ndarray, title: str) -> Figure:
    """Return one panel per property, predicted over true value, with the MAE.

    Args:
        properties: Names.
        truth: Labels, (n, P), NaN where unknown.
        predicted: Predictions, (n, P).
        title: Title of the figure.
    """
    from matplotlib.figure import Figure

    columns = min(3, len(properties))
    rows = -(-len(properties) // columns)
    figure = Figure(figsize=(columns * _WIDTH, rows * _WIDTH + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, name, column in zip(panels, properties, range(len(properties)), strict=False):
        record = get_property(name)
        parity_panel(panel, record.title, record.unit, truth[:, column], predicted[:, column])
    for panel in panels[len(properties) :]:
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
    left.plot(
        epochs,
        [np.nan if record["val_score"] is None else record["val_score"] for record in history],
        "o-",
        color="#1f5fa8",
        markersize=2.5,
        linewidth=1,
    )
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
