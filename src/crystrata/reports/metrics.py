"""Metrics in physical units. n materials, K classes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import log2
from typing import Any

import numpy as np


@dataclass(frozen=True)
class PropertyMetrics:
    """How well one property is predicted on one part.

    Attributes:
        n: Known labels.
        mae: Mean absolute error, in the property's unit.
        rmse: Root mean square error.
        r2: Coefficient of determination.
        mad: Mean absolute deviation of these labels from the training mean: the error of predicting that mean.
        median_mae: Error of predicting the training median: the baseline to beat.
        skill: 1 - mae / mad_train, with the deviation of the training labels.
        n_flagged: Labels among the n that the outlier check speaks against.
        mae_unflagged: Mean absolute error without these; NaN where no other is left.
    """

    n: int
    mae: float
    rmse: float
    r2: float
    mad: float
    median_mae: float
    skill: float
    n_flagged: int
    mae_unflagged: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def property_metrics(
    truth: np.ndarray, predicted: np.ndarray, train: np.ndarray, flagged: np.ndarray | None = None
) -> PropertyMetrics | None:
    """Return the metrics of one property, or None where no label is known.

    Args:
        truth: Labels, (n,), NaN where unknown.
        predicted: Predictions, (n,).
        train: Training labels, (m,), NaN where unknown; they define the baselines, which are NaN where there are none.
        flagged: True where the outlier check speaks against a label, (n,); all pass if not given.
    """
    known = np.isfinite(truth)
    unflagged = np.ones(known.sum(), dtype=bool) if flagged is None else ~flagged[known]
    truth, predicted, train = truth[known].astype(float), predicted[known], train[np.isfinite(train)].astype(float)
    if not len(truth):
        return None
    train = train if len(train) else np.array([np.nan])
    error = predicted - truth
    spread = float(np.square(truth - truth.mean()).sum())
    mae = float(np.abs(error).mean())
    deviation = float(np.abs(train - train.mean()).mean())
    return PropertyMetrics(
        n=len(truth),
        mae=mae,
        rmse=float(np.sqrt(np.square(error).mean())),
        r2=1 - float(np.square(error).sum()) / spread if spread > 0 else float("nan"),
        mad=float(np.abs(truth - train.mean()).mean()),
        median_mae=float(np.abs(truth - np.median(train)).mean()),
        skill=1 - mae / deviation if deviation > 0 else float("nan"),
        n_flagged=int((~unflagged).sum()),
        mae_unflagged=float(np.abs(error[unflagged]).mean()) if unflagged.any() else float("nan"),
    )


def competition_score(skills: list[float], hours: float) -> dict[str, float]:
    """Return `score`, 100 x the mean skill with each clipped at 0, and `balanced_score`, score - log2(1 + hours)."""
    score = 100 * float(np.mean([max(0.0, skill) for skill in skills]))
    return {"score": score, "balanced_score": score - log2(1 + hours)}


def class_metrics(truth: np.ndarray, predicted: np.ndarray, train: np.ndarray) -> dict[str, Any] | None:
    """Return the metrics of a classification, or None where no label is known.

    Classes are `truth` and `predicted`, (n,), and `train`, (m,), negative where unknown; the most frequent training
    class is the baseline. `macro_f1` is the mean over the classes that occur or were predicted.
    """
    known = truth >= 0
    truth, predicted, train = truth[known], predicted[known], train[train >= 0]
    if not len(truth):
        return None
    f1 = []
    for label in np.union1d(truth, predicted):
        hits = float(((truth == label) & (predicted == label)).sum())
        f1.append(2 * hits / float((truth == label).sum() + (predicted == label).sum()))
    majority = np.bincount(train).argmax() if len(train) else -1
    return {
        "n": len(truth),
        "accuracy": float((truth == predicted).mean()),
        "macro_f1": float(np.mean(f1)),
        "majority_accuracy": float((truth == majority).mean()),
    }
