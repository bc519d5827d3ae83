"""Running a network of tasks over compositions: predictions in long form. M values: of samples, components, points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystrata.datasets.composition_dataset import CompositionDataset
from crystrata.datasets.sampling import Step
from crystrata.datasets.task_targets import TaskTargets
from crystrata.networks.task_network import TaskNetwork

_BATCH = 256


@dataclass(frozen=True)
class TaskPredictions:
    """Predictions of one task.

    Attributes:
        row: Row of the dataset that each value belongs to, (M,).
        true: Labels in physical units, (M,), NaN where unknown; classes, -1 where unknown.
        predicted: (M,).
        t: Coordinate of each value of a curve or sequence, (M,); None without one.
        component: Component of each value of a vector, (M,), or step of a sequence without coordinates; None elsewhere.
    """

    row: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    t: np.ndarray | None = None
    component: np.ndarray | None = None


@torch.inference_mode()
def predict_tasks(network: TaskNetwork, dataset: CompositionDataset, rows: np.ndarray) -> dict[str, TaskPredictions]:
    """Return the predictions of all tasks that have labels, for rows of a dataset, in their order.

    Args:
        network: In evaluation mode.
        dataset: Tells also where curves are asked for.
        rows: (n,).
    """
    device = network.descriptor_mean.device
    parts: dict[str, list[TaskPredictions]] = {name: [] for name in dataset.labels if name in network.heads}
    for batch in dataset.batches(Step(rows, _BATCH), network.training_form):
        found, batch_rows = network(batch.to(device), parts), batch.rows.numpy()
        for name, collected in parts.items():
            collected.append(_long_form(batch.labels[name], found[name].cpu(), batch_rows))
    return {name: _joined(collected) for name, collected in parts.items() if collected}


def _long_form(labels: TaskTargets, predicted: Tensor, rows: np.ndarray) -> TaskPredictions:
    if labels.lengths is None:
        width = 1 if labels.values.ndim == 1 else labels.values.shape[1]
        component = np.tile(np.arange(width), len(rows)) if labels.values.ndim > 1 else None
        chosen, row = torch.ones_like(labels.known), np.repeat(rows, width)
    else:
        chosen = torch.ones_like(labels.known) if labels.is_ragged else labels.present
        lengths = labels.lengths.numpy()
        row = np.repeat(rows, lengths)
        component = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths) if labels.t is None else None
    unknown = -1 if not labels.values.is_floating_point() else torch.nan
    true = labels.values.where(labels.known, unknown)[chosen].flatten().numpy()
    t = None if labels.t is None else labels.t[chosen].flatten().numpy()
    return TaskPredictions(row, true, predicted[chosen].flatten().numpy(), t, component)


def _joined(parts: Sequence[TaskPredictions]) -> TaskPredictions:
    def all_of(name: str) -> Any:
        pieces = [getattr(part, name) for part in parts]
        return None if pieces[0] is None else np.concatenate(pieces)

    return TaskPredictions(**{name: all_of(name) for name in ("row", "true", "predicted", "t", "component")})
