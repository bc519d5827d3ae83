"""After training: intervals and domain of the best weights from validation, and how far they hold on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crystrata.prediction.calibration import Calibration, write_calibration
from crystrata.prediction.domain import SAMPLE, Domain
from crystrata.prediction.inference import describe_graphs
from crystrata.prediction.intervals import ConformalIntervals, predicted_metals
from crystrata.prediction.models import TrainedModel
from crystrata.workflows.preparation import PreparedData

LEVELS = (80, 90, 95)
"""Levels at which the intervals are tried on the test part [%]."""


def calibrate_run(
    run: Path,
    model: TrainedModel,
    prepared: PreparedData,
    properties: Sequence[str],
    truth: Mapping[str, np.ndarray],
    predicted: Mapping[str, np.ndarray],
    latents: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Calibrate the best weights of a run, write what was learned beside them, and try it on the test part.

    Args:
        run: Run directory.
        model: Its best weights.
        prepared: Its crystals and split.
        properties: Names of the P properties.
        truth: Part, `val` and `test` -> labels of its crystals, (n, P), NaN where unknown.
        predicted: Part -> predictions, (n, P).
        latents: Part -> latents, (n, d).

    Returns:
        The figures of the intervals on the test part; see `interval_figures`.
    """
    labels, values = (
        {part: dict(zip(properties, one[part].T, strict=True)) for part in latents} for one in (truth, predicted)
    )
    calibration = calibrate(model, prepared, labels["val"], values["val"], latents["val"])
    write_calibration(run, calibration, model.path)
    return interval_figures(calibration, labels["test"], values["test"], latents["test"])


def calibrate(
    model: TrainedModel,
    prepared: PreparedData,
    labels: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    latents: np.ndarray,
) -> Calibration:
    """Learn intervals and domain of a model from the n validation crystals of its run.

    Args:
        model: The best weights.
        prepared: Crystals and split of the run.
        labels: Property -> labels of the validation crystals, (n,), NaN where unknown.
        values: Property -> predictions for them, (n,).
        latents: Their latents, (n, d).
    """
    dataset, split = prepared.data.dataset, prepared.data.split
    graphs, sample = dataset.graphs, split.train
    if len(sample) > SAMPLE:
        sample = np.sort(np.random.default_rng(split.seed).choice(sample, SAMPLE, replace=False))
    cells = np.abs(np.linalg.det(np.asarray(graphs.lattice)[split.train]))
    domain = Domain.fit(
        describe_graphs(model.network, graphs, sample).latents,
        latents,
        dataset.fractions(split.train).numpy(),
        cells / np.asarray(graphs.atom_counts)[split.train],
    )
    residuals = {name: labels[name] - values[name] for name in values}
    intervals = ConformalIntervals.fit(latents, domain.distance(latents), predicted_metals(values), residuals)
    return Calibration(intervals, domain)


def interval_figures(
    calibration: Calibration,
    labels: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    latents: np.ndarray,
) -> dict[str, Any]:
    """Return how the intervals do on crystals that they were not made from; arguments as those of `calibrate`.

    Returns:
        Property -> None where it has no interval, else the number of calibration labels and, per level in percent, for
        all crystals, predicted metals and others: labels, the share of them within the interval, and its mean width.
    """
    metal, distance = predicted_metals(values), calibration.domain.distance(latents)
    groups = {"all": np.ones(len(metal), dtype=bool), "metals": metal, "non-metals": ~metal}
    figures: dict[str, Any] = {
        name: {"calibration": int(np.isfinite(calibration.intervals.errors[name]).sum()), "levels": {}}
        if name in calibration.intervals.properties
        else None
        for name in values
    }
    for level in LEVELS:
        bounds = calibration.intervals.bounds(values, latents, distance, metal, level / 100)
        for name, (low, high) in bounds.items():
            known = np.isfinite(labels[name]) & np.isfinite(low)
            within = (labels[name] >= low) & (labels[name] <= high)
            figures[name]["levels"][str(level)] = {
                group: _share(within[known & rows], (high - low)[known & rows]) for group, rows in groups.items()
            }
    return figures


def _share(within: np.ndarray, widths: np.ndarray) -> dict[str, Any]:
    if not len(within):
        return {"n": 0, "coverage": None, "width": None}
    return {"n": len(within), "coverage": float(within.mean()), "width": float(widths.mean())}
