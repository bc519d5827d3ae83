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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crystrata.datasets.splits import PARTS, Split
from crystrata.properties import Property, get_property

COLUMNS = ("key", "split", "property", "value", "score", "reason", "action")
MASKED, KEPT = "masked", "kept"
_FAR = 3.0  # outside this many times the plausible range a label cannot be right
_NORMAL = 0.6745  # MAD of a normal distribution in standard deviations: a score then counts these
_LEAST_LABELS = 20  # fewer have no meaningful spread


@dataclass(frozen=True)
class OutlierCheck:
    """What the check found.

    Attributes:
        properties: Names of the columns.
        flagged: True where a rule speaks against a label, (n, P).
        masked: True where a training label must not be trained on, (n, P).
        table: One row per flagged label, with `COLUMNS`.
    """

    properties: tuple[str, ...]
    flagged: np.ndarray
    masked: np.ndarray
    table: pd.DataFrame

    def masked_for(self, names: Sequence[str]) -> np.ndarray:
        """Return `masked` for some of the properties, (n, len(names))."""
        return self.masked[:, [self.properties.index(name) for name in names]]

    def flagged_for(self, name: str) -> np.ndarray:
        """Return `flagged` for one property, (n,)."""
        return self.flagged[:, self.properties.index(name)]


def check_outliers(
    names: Sequence[str], values: np.ndarray, split: Split, ids: Sequence[str], *, limit: float, mask: bool = True
) -> OutlierCheck:
    """Check the labels of the three parts.

    A derived property has no label of its own to train on: only its range is looked at, and nothing of it is masked.

    Args:
        names: Properties.
        values: Their labels in physical units, (n, P), NaN where unknown.
        split: Rows of each part; other rows are not looked at.
        ids: Key of each crystal, (n,).
        limit: Largest z that passes.
        mask: Whether training labels may be masked; if not, all is only reported.
    """
    part_of_row = np.full(len(values), "", dtype=object)
    for part in PARTS:
        part_of_row[split.part(part)] = part
    flagged, masked = np.zeros(values.shape, dtype=bool), np.zeros(values.shape, dtype=bool)
    rows = []
    for column, record in enumerate(map(get_property, names)):
        labels = values[:, column].astype(np.float64)
        scores = robust_scores(labels, split.train, record)
        reasons, cannot_be = _judge(labels, scores, record, limit)
        flagged[:, column] = (part_of_row != "") & np.logical_or.reduce(list(reasons.values()))
        if mask and not record.derived_from:
            masked[:, column] = (part_of_row == "train") & cannot_be
        for row in np.flatnonzero(flagged[:, column]).tolist():
            reason = "; ".join(words for words, found in reasons.items() if found[row])
            action = MASKED if masked[row, column] else KEPT
            rows.append((ids[row], part_of_row[row], record.name, labels[row], scores[row], reason, action))
    return OutlierCheck(tuple(names), flagged, masked, pd.DataFrame(rows, columns=list(COLUMNS)))


def robust_scores(labels: np.ndarray, train: np.ndarray, record: Property) -> np.ndarray:
    """Return z of each label (n,) on the scale of the property's transform; NaN where it is unknown or has no meaning.

    Where more than half of the training labels are one and the same number (the zero gap of metals, the zero
    piezoelectricity of crystals with an inversion centre), their MAD is 0 and would damn all others. That number is
    then a class of its own with z = 0, and median and MAD are those of the other labels. A column without spread, of
    fewer than 20 training labels, or derived from another has no z.
    """
    known = labels[train][np.isfinite(labels[train])]
    if record.derived_from or not len(known):
        return np.full(len(labels), np.nan)
    sizes = np.abs(known[known != 0])
    scale = np.median(sizes) if len(sizes) else 1.0  # as `TargetScaling` fits it

    def transformed(value: np.ndarray) -> np.ndarray:
        return np.arcsinh(value / scale) if record.transform == "asinh" else value

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
    labels: np.ndarray, scores: np.ndarray, record: Property, limit: float
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return what speaks against each label, words -> (n,), and whether it cannot be right, (n,); NaN passes all."""
    low, high = record.plausible
    lowest = -np.inf if record.lower is None else record.lower
    nonphysical, outside = labels < lowest, (labels < low) | (labels > high)
    beyond = (scores > limit) & outside if record.heavy_tailed else scores > limit
    reasons = {
        f"below the physical bound {lowest:g}": nonphysical,
        f"outside [{low:g}, {high:g}]": outside,
        f"z above {limit:g}": beyond,
    }
    far = (labels < _FAR * low) | (labels > _FAR * high)
    return reasons, nonphysical | far | beyond
