"""From label columns to a target matrix: n rows, P properties, NaN where unknown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crystrata.errors import DataError, nearest
from crystrata.properties import get_property
from crystrata.sources.table import FRAMES_GIVEN


def target_matrix(labels: pd.DataFrame, properties: Sequence[str]) -> np.ndarray:
    """Return the targets of the named properties, (n, P) float32; a property of several columns is their mean.

    Raises:
        DataError: A label column is missing from the source.
    """
    targets = np.empty((len(labels), len(properties)), dtype=np.float32)
    for position, name in enumerate(properties):
        columns = list(get_property(name).columns)
        for column in columns:
            if column not in labels.columns:
                raise DataError(
                    f"the data source has no column {column!r}, which {name} needs{nearest(column, labels.columns)}"
                )
        values = labels[columns].to_numpy(dtype=np.float64)
        with np.errstate(over="ignore"):  # beyond float32 is beyond physics: unknown
            targets[:, position] = values.mean(axis=1)  # NaN if any is
    return np.where(np.isfinite(targets), targets, np.nan).astype(np.float32)


def own_labels(labels: pd.DataFrame, properties: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the labels of derived properties that have some of their own, name -> (n,) float32."""
    derived = [name for name in properties if get_property(name).derived_from and get_property(name).columns]
    return {name: target_matrix(labels, [name])[:, 0] for name in derived}


def component_targets(labels: pd.DataFrame, properties: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the component labels of tensor properties, name -> (n, k) float32.

    A row is NaN unless all components are known and stated in the frame of the crystal's lattice; without a column
    `orientation` no frame is known.
    """
    found = {}
    for name in properties:
        columns = list(get_property(name).columns)
        if len(columns) > 1 and "orientation" in labels:
            values = labels[columns].to_numpy(dtype=np.float32)
            framed = labels["orientation"].isin(FRAMES_GIVEN).to_numpy() & np.isfinite(values).all(axis=1)
            found[name] = np.where(framed[:, None], values, np.nan).astype(np.float32)
    return found
