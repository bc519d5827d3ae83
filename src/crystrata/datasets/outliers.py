"""The outlier check: a label that cannot be right is masked, in training alone. n crystals, P properties.

Three rules look at each label; their statistics come from the known training labels:

- physical bound: the value is non-physical (a negative modulus or gap);
- range: it lies outside the property's plausible range;
- z: its robust score 0.6745 |x - median| / MAD, on the scale of the property's transform, exceeds a limit.

A training label is masked when it is non-physical, outside three times the range, or beyond the limit of z: that label
alone, never its crystal. All else is only reported; validation and test keep every known label. Of a heavy-tailed
property (the moduli: z of diamond is 18) z counts outside the range only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crystrata.datasets.splits import PARTS, Split
from crystrata.tasks import Task

COLUMNS = ("key", "split", "property", "value", "score", "reason", "action")
MASKED, KEPT = "masked", "kept"
_FAR = 3.0  # outside this many times the plausible range a label cannot be right
_NORMAL = 0.6745  # MAD of a normal distribution in standard deviations: a score then counts these
_LEAST_LABELS = 20  # fewer have no meaningful spread


@dataclass(frozen=True)
class OutlierCheck:
    """What the check found.

    Attributes:
        flagged: Task -> whether a rule speaks against its label, (n,).
        masked: Task -> whether its training label must not be trained on, (n,).
        table: One row per flagged label, with `COLUMNS`.
    """

    flagged: Mapping[str, np.ndarray]
    masked: Mapping[str, np.ndarray]
    table: pd.DataFrame

    def masked_for(self, name: str) -> np.ndarray:
        """Return `masked` for one task, (n,)."""
        return self.masked[name]

    def flagged_for(self, name: str) -> np.ndarray:
        """Return `flagged` for one task, (n,)."""
        return self.flagged[name]


def check_outliers(
    tasks: Sequence[Task],
    values: Mapping[str, np.ndarray],
    split: Split,
    ids: Sequence[str],
    *,
    limit: float,
    mask: bool = True,
) -> OutlierCheck:
    """Check the labels of the three parts.

    A derived property has no label of its own to train on: only its range is looked at, and nothing of it is masked.

    Args:
        tasks: Tasks of one number.
        values: Their labels in physical units, task -> (n,), NaN where unknown.
        split: Rows of each part; other rows are not looked at.
        ids: Key of each crystal, (n,).
        limit: Largest z that passes.
        mask: Whether training labels may be masked; if not, all is only reported.
    """
    part_of_row = np.full(len(ids), "", dtype=object)
    for part in PARTS:
        part_of_row[split.part(part)] = part
    flagged, masked, rows = dict[str, np.ndarray](), dict[str, np.ndarray](), []
    for task in tasks:
        labels = values[task.name].astype(np.float64)
        scores = robust_scores(labels, split.train, task)
        reasons, cannot_be = _judge(labels, scores, task, limit)
        flagged[task.name] = (part_of_row != "") & np.logical_or.reduce(list(reasons.values()))
        masked[task.name] = (part_of_row == "train") & cannot_be & (mask and not task.derived_from)
        for row in np.flatnonzero(flagged[task.name]).tolist():
            reason = "; ".join(words for words, found in reasons.items() if found[row])
            action = MASKED if masked[task.name][row] else KEPT
            rows.append((ids[row], part_of_row[row], task.name, labels[row], scores[row], reason, action))
    return OutlierCheck(flagged, masked, pd.DataFrame(rows, columns=list(COLUMNS)))


def robust_scores(labels: np.ndarray, train: np.ndarray, task: Task) -> np.ndarray:
    """Return z of each label (n,) on the scale of the property's transform; NaN where it is unknown or has no meaning.

    Where more than half of the training labels are one and the same number (the zero gap of metals, the zero
    piezoelectricity of crystals with an inversion centre), their MAD is 0 and would damn all others. That number is
    then a class of its own with z = 0, and median and MAD are those of the other labels. A column without spread, of
    fewer than 20 training labels, or derived from another has no z.
    """
    known = labels[train][np.isfinite(labels[train])]
    if task.derived_from or not len(known):
        return np.full(len(labels), np.nan)
    sizes = np.abs(known[known != 0])
    scale = np.median(sizes) if len(sizes) else 1.0  # as `Scaling` fits it

    def transformed(value: np.ndarray) -> np.ndarray:
        if task.transform == "log1p":
            return np.log1p(np.maximum(value, 0))
        return np.arcsinh(value / scale) if task.transform == "asinh" else value

    reference, usual = transformed(known), None
    centre = np.median(reference)
    if np.mean(reference == centre) > 0.5:
        usual, reference = centre, reference[reference != centre]
    if len(reference) < _LEAST_LABELS:
        return np.full(len(labels), np.nan)
    centre = np.median(reference)
    spread = np.median(np.abs(reference - centre))
    if not spread > 0:
        return np.full(len(labels), np.nan)
    value = transformed(labels)
    scores = _NORMAL * np.abs(value - centre) / spread
    return scores if usual is None else np.where(value == usual, 0.0, scores)


def _judge(
    labels: np.ndarray, scores: np.ndarray, task: Task, limit: float
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return what speaks against each label, words -> (n,), and whether it cannot be right, (n,); NaN passes all."""
    low, high = task.plausible
    lowest = -np.inf if task.lower is None else task.lower
    nonphysical, outside = labels < lowest, (labels < low) | (labels > high)
    beyond = (scores > limit) & outside if task.heavy_tailed else scores > limit
    reasons = {
        f"below the physical bound {lowest:g}": nonphysical,
        f"outside [{low:g}, {high:g}]": outside,
        f"z above {limit:g}": beyond,
    }
    far = (labels < _FAR * low) | (labels > _FAR * high)
    return reasons, nonphysical | far | beyond
