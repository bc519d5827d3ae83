"""Figures of merit of tasks that are no plain number. n samples, K classes."""

from __future__ import annotations

from typing import Any

import numpy as np


def class_metrics(truth: np.ndarray, predicted: np.ndarray, train: np.ndarray) -> dict[str, Any] | None:
    """Return the metrics of a classification, or None where no label is known.

    Args:
        truth: Classes, (n,), negative where unknown.
        predicted: Decided classes, (n,).
        train: Training classes, (m,), negative where unknown; the most frequent one is the baseline.

    Returns:
        `n`, `accuracy`, `macro_f1` (mean over the classes that are there or were predicted), and `majority_accuracy`.
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
