"""Statistics of element features over a composition: the plain descriptor to compare others with.

B compositions, n elements, F features.
"""

from __future__ import annotations

import numpy as np

from crystrata.errors import InputError

STATISTICS = ("mean", "variance", "max", "min")


def composition_statistics(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return weighted mean, weighted variance, maximum and minimum of the features over the elements present.

    Args:
        weights: (B, n) atomic fractions.
        features: (n, F).

    Returns:
        (B, 4 F) float64, statistic by statistic in the order of `STATISTICS`.

    Raises:
        InputError: A row has no element.
    """
    empty = np.flatnonzero(~(weights > 0).any(axis=1))
    if len(empty):
        raise InputError(f"composition {empty[0]} has no element")
    row, element = np.nonzero(weights)
    first = np.searchsorted(row, np.arange(len(weights)))  # first element of each composition
    share, feature = weights[row, element][:, None], features[element]
    mean = np.add.reduceat(share * feature, first)
    variance = np.add.reduceat(share * (feature - mean[row]) ** 2, first)
    extremes = np.maximum.reduceat(feature, first), np.minimum.reduceat(feature, first)
    return np.concatenate([mean, variance, *extremes], axis=1)
