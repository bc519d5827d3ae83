"""The page and the figure of curves.py, from the records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from crystrata.reports.tables import markdown

GOALS = (0.30, 0.20, 0.15, 0.12)  # eV/atom


@dataclass
class Line:
    """A training.

    Attributes:
        label: What was trained.
        parameters: Number of its weights.
        rate: Peak learning rate.
        epochs: Length of the training and of its schedule.
        mae: Validation MAE after each epoch [eV/atom].
        seconds: CPU seconds until then.
        versions: Of the peer.
        ours: Whether it is one of Crystrata's own tracks.
    """

    label: str
    parameters: int
    rate: float
    epochs: float
    mae: list[float]
    seconds: list[float]
    versions: str = ""
    ours: bool = False


def seconds_to_reach(line: Line, goal: float) -> float | None:
    """Return the CPU seconds until a validation MAE, or None if it never came.

    Between two epochs the line of the figure is read (straight in the logarithms); nothing is assumed before the first.
    """
    below = [row for row, mae in enumerate(line.mae) if mae <= goal]
    if not below:
        return None
    row = below[0]
    if row == 0:
        return line.seconds[0]
    (before, after), (start, end) = np.log(line.mae[row - 1 : row + 1]), np.log(line.seconds[row - 1 : row + 1])
    return float(np.exp(start + (end - start) * (before - np.log(goal)) / (before - after)))


def best_of_each(lines: Sequence[Line]) -> list[Line]:
    """Return the training with the least final MAE of each label."""
    best: dict[str, Line] = {}
    for line in lines:
        if line.label not in best or line.mae[-1] < best[line.label].mae[-1]:
            best[line.label] = line
    return list(best.values())


def page(lines: Sequence[Line]) -> str:
    """Return the whole page."""
    best = best_of_each(lines)
    ordered = sorted(lines, key=lambda line: (next(one.mae[-1] for one in best if one.label == line.label),
                                              line.label, line.mae[-1]))  # fmt: skip
    versions = ", ".join(dict.fromkeys(line.versions for line in lines if line.versions))
    return _HEAD + markdown(pd.DataFrame([_row(line) for line in ordered])) + _NOTES + f"\nVersions: {versions}.\n"


def _row(line: Line) -> dict[str, str]:
    row = {
        "what": line.label,
        "parameters": f"{line.parameters:,}",
        "rate": f"{line.rate:g}",
        "epochs": f"{line.epochs:g}",
        "validation MAE": f"{line.mae[-1]:.4f}",
        "CPU s": f"{line.seconds[-1]:.0f}",
    }
    for goal in GOALS:
        seconds = seconds_to_reach(line, goal)
        row[f"s to {goal:.2f}"] = "-" if seconds is None else f"{seconds:.0f}"
    return row


def save_figure(lines: Sequence[Line], path: Path) -> None:
    """Draw MAE over CPU seconds: the best training of each label with its name, the others faint."""
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(8.6, 5.2), layout="constrained")
    panel = figure.subplots()
    best = best_of_each(lines)
    ours, others = iter(_OURS), iter(_OTHERS)
    colours = {line.label: next(ours if line.ours else others) for line in sorted(best, key=lambda one: one.mae[-1])}
    for line in lines:
        strong = line in best
        panel.plot(
            line.seconds, line.mae, color=colours[line.label], linewidth=(2.6 if line.ours else 1.5) if strong else 0.8,
            alpha=1.0 if strong else 0.3, marker="o" if len(line.mae) == 1 else "", markersize=5,
        )  # fmt: skip
    panel.set_xscale("log")
    panel.set_yscale("log")
    right = max(line.seconds[-1] for line in lines)
    panel.set_xlim(right=right * 4)  # room for the names
    seconds = [value for value in (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if value <= right * 1.3]
    every = [mae for line in lines for mae in line.mae]
    maes = [mae for mae in (0.08, 0.1, 0.12, 0.15, 0.2, 0.3, 0.4, 0.6) if 0.9 * min(every) <= mae <= max(every)]
    panel.set_xticks(seconds, map(str, seconds))
    panel.set_yticks(maes, map(str, maes))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_minor_locator(NullLocator())
    for line, height in zip(best, _spread([line.mae[-1] for line in best]), strict=True):
        weight = "bold" if line.ours else "normal"
        panel.annotate(
            line.label.replace("`", ""), (line.seconds[-1], line.mae[-1]), (line.seconds[-1] * 1.06, height),
            color=colours[line.label], fontsize=9, fontweight=weight, va="center",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip
    panel.set_xlabel("CPU seconds, one core")
    panel.set_ylabel("validation MAE of the formation energy [eV/atom]")
    panel.set_title(
        "8,000 training crystals, one schedule per line; faint: other learning rates and seeds", fontsize=10
    )
    panel.grid(alpha=0.25)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    figure.savefig(path, dpi=130)


def _spread(heights: Sequence[float], apart: float = 0.05) -> list[float]:
    """Return heights moved up where two are closer than a step of the logarithm, so that names do not overlap."""
    result, last = dict.fromkeys(range(len(heights)), 0.0), -np.inf
    for row in np.argsort(heights):
        last = max(float(np.log(heights[row])), last + apart)
        result[int(row)] = float(np.exp(last))
    return list(result.values())


_OURS, _OTHERS = ("#c0392b", "#e07b14"), ("#1f5fa8", "#6a3d9a", "#138d90", "#5d8a26", "#777777", "#8c510a")

_HEAD = """# Accuracy against CPU time

![Validation MAE against CPU seconds](curves.png)

Formation energy; 8,000 training and 1,000 validation crystals of JARVIS-DFT 2021 of at most 20 atoms, the same for all.
All learn the same numbers (the energy less a ridge on the composition, over its mean deviation) with the same loop:
batch 32, L1, AdamW with weight decay 1e-5, cosine with 5 % warm-up to 1 %, gradient norm at most 0.5, and the moving
average of the weights (0.999 with a ramp) validated after each epoch. One thread, denormal numbers flushed.

`s to x` is the CPU time until a validation MAE of x eV/atom, read off the lines of the figure; `-`: not reached.
Made by `python benchmarks/trunks.py --data-file FILE --encoder NAME` (Crystrata, plain e3nn) and
`python benchmarks/curves.py --data-file FILE --peers PYTHON` (the others).

"""

_NOTES = """
What is unequal:

- The peers have the sizes that the table of [speed](speed.md) times and their packages' defaults beside those. Only
  the rates in the table were tried; other settings may suit so few crystals better. E3NN, NequIP, plain e3nn
  and both CGCNN are best at the largest of their rates with the first seed: a still larger one may be better yet.
- E3NN has three seeds at two of its rates, which lie further apart than the rates do (mean and standard error .114 and
  .003 at 0.003, .118 and .008 at 0.006); the others have one seed, the first, as the bold line has.
- MACE is dear: its schedule is shorter (column `epochs`), a whole cosine of that length, and its rate, the default of
  its own training, was not searched. It would go lower with 20 epochs, at the cost of 20 epochs.
- TensorNet is left out: its one training (4 epochs at 0.003, 224 CPU seconds) did not learn and stayed at 0.444, what
  the composition alone gives. On 32 crystals the same set-up does learn, so the rate is likely too high; this says
  nothing of its accuracy.
- ALIGNN 4 + 4, 256, is left out: with a training step of some 35 ms per crystal here, one epoch costs near 300 CPU
  seconds.
- Crystrata trains on distinct atoms, one for its symmetric copies; the peers compute all atoms. Loss and gradient are
  the same. Edges are Crystrata's for NequIP and MACE; the textbook CGCNN has 12 neighbours.
- Crystrata's seconds include data, batches and everything around the steps, spread evenly over the epochs; the peers'
  only steps and validation, with batches prepared outside the clock.
- The core is shared with other work, which moves CPU times by tens of percent from one training to another.
"""
