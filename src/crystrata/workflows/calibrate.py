"""After training: intervals and domain of the best weights from validation, and how far they hold on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crystrata.prediction.calibration import Calibration, write_calibration
from crystrata.prediction.domain import SAMPLE, Domain
from crystrata.prediction.inference import evaluate_rows
from crystrata.prediction.intervals import ConformalIntervals, conformal_quantile, predicted_metals
from crystrata.prediction.trained_model import TrainedModel
from crystrata.tasks import Task
from crystrata.workflows.prepare import Prepared

LEVELS = (80, 90, 95)
"""Levels at which the intervals are tried on the test part [%]."""

Columns = Mapping[str, np.ndarray]


def calibrate_run(
    run: Path, model: TrainedModel, prepared: Prepared, tasks: Sequence[Task], labels: Mapping[str, Columns],
    values: Mapping[str, Columns], latents: Mapping[str, np.ndarray],
) -> dict[str, Any]:  # fmt: skip
    """Calibrate the best weights of a run, write what was learned beside them, and try it on the test part.

    Args:
        run: Run directory.
        model: Its best weights.
        prepared: Its materials and split.
        tasks: Tasks of one number.
        labels: Part, `val` and `test` -> task -> labels of its materials, (n,), NaN where unknown.
        values: Part -> task -> predictions, (n,).
        latents: Part -> latents, (n, d).

    Returns:
        The metrics of the intervals on the test part, see `interval_metrics`, each level with `half_width`: that of an
        interval as wide for every material (None with too few labels). None without a task or a validation part.
    """
    if not values["val"] or not len(latents["val"]) or not len(prepared.split.train):
        return {}
    calibration = calibrate(model, prepared, labels["val"], values["val"], latents["val"])
    write_calibration(run, calibration, model.path)
    metrics = interval_metrics(calibration, tasks, labels["test"], values["test"], latents["test"])
    for name, column in values["val"].items():
        errors = np.abs(labels["val"][name] - column)
        errors = errors[np.isfinite(errors)]
        if not metrics[name]:
            metrics[name] = {"calibration": len(errors), "levels": {str(level): {} for level in LEVELS}}
        for level, groups in metrics[name]["levels"].items():
            half = conformal_quantile(errors, int(level) / 100)
            groups["half_width"] = half if np.isfinite(half) else None
    return metrics


def calibrate(
    model: TrainedModel, prepared: Prepared, labels: Columns, values: Columns, latents: np.ndarray
) -> Calibration:
    """Learn intervals and domain of a model from the n validation materials of its run.

    `labels` and `values` are task -> labels and predictions, (n,), NaN where unknown; `latents` are (n, d).
    """
    dataset, train = prepared.dataset, prepared.split.train
    sample = train
    if len(sample) > SAMPLE:
        sample = np.sort(np.random.default_rng(prepared.split.seed).choice(sample, SAMPLE, replace=False))
    shape: tuple[np.ndarray, ...] = ()
    if dataset.structures is not None and dataset.structures.complete:
        crystals = dataset.structures.row[train]
        cells = np.abs(np.linalg.det(np.asarray(dataset.graphs.lattice)[crystals]))
        shape = (dataset.fractions(train).numpy(), cells / np.asarray(dataset.graphs.atom_counts)[crystals])
    domain = Domain.fit(evaluate_rows(model.network, dataset, sample).latents, latents, *shape)
    residuals = {name: labels[name] - values[name] for name in values}
    intervals = ConformalIntervals.fit(latents, domain.distance(latents), predicted_metals(values), residuals)
    return Calibration(intervals, domain)


def interval_metrics(
    calibration: Calibration, tasks: Sequence[Task], labels: Columns, values: Columns, latents: np.ndarray
) -> dict[str, Any]:
    """Return how the intervals do on materials that they were not made from; arguments as those of `calibrate`.

    Task -> None where it has no interval, else the number of calibration labels and, per level in percent, for all
    materials, predicted metals and others: labels, the share of them within the interval, and its mean width.
    """
    metal, distance = predicted_metals(values), np.zeros(0)
    if len(latents):
        distance = calibration.domain.distance(latents)
    groups = {"all": np.ones(len(metal), dtype=bool), "metals": metal, "non-metals": ~metal}
    metrics: dict[str, Any] = {
        name: {"calibration": int(np.isfinite(calibration.intervals.errors[name]).sum()), "levels": {}}
        if name in calibration.intervals.properties
        else None
        for name in values
    }
    for level in LEVELS:
        bounds = calibration.intervals.bounds(tasks, values, latents, distance, metal, level / 100)
        for name, (low, high) in bounds.items():
            known = np.isfinite(labels[name]) & np.isfinite(low)
            within = (labels[name] >= low) & (labels[name] <= high)
            metrics[name]["levels"][str(level)] = {
                group: _share(within[known & rows], (high - low)[known & rows]) for group, rows in groups.items()
            }
    return metrics


def _share(within: np.ndarray, widths: np.ndarray) -> dict[str, Any]:
    if not len(within):
        return {"n": 0, "coverage": None, "width": None}
    return {"n": len(within), "coverage": float(within.mean()), "width": float(widths.mean())}
