"""What the training labels of a task tell before its head is made: widths, class weights, the scale of its errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from crystrata.datasets.task_targets import TaskTargets
from crystrata.datasets.tasks.masks import balanced_class_weights
from crystrata.datasets.tasks.specs import TaskSpec
from crystrata.datasets.tasks.tables import TaskLabels

BALANCED = "balanced"
"""As `class_weights` of a head: weights that make all classes count the same, from the training labels."""


def with_label_widths(spec: TaskSpec, labels: TaskLabels, train: Sequence[str]) -> TaskSpec:
    """Return a task whose head knows what only labels tell; what its settings name already stays.

    That is the number of components of a vector, the longest sequence of the head `vec`, and balanced class weights.

    Args:
        spec: The task.
        labels: Its labels, of all parts.
        train: Keys of the training part.
    """
    head = dict(spec.head)
    if spec.kind == "vector":
        head.setdefault("components", labels.width)
    elif spec.kind == "sequence" and spec.subtype == "vec":
        head.setdefault("seq_len", int(np.diff(labels.offsets).max(initial=1)))
    elif head.get("class_weights") == BALANCED:
        inside = set(train)
        trained = np.array([key in inside for key in labels.keys], dtype=bool)
        head["class_weights"] = balanced_class_weights(labels.values[trained], len(spec.classes)).tolist()
    return replace(spec, head=head)


def error_scale(spec: TaskSpec, targets: TaskTargets | None) -> float:
    """Return what the validation figure of a task is divided by in the selection score; 1 where that would be 0.

    Of numbers it is the mean absolute deviation of the training labels, of classes the error of always telling the
    most frequent one; the error of an autoencoder is in units of the training variance already.

    Args:
        spec: The task.
        targets: Training labels; None for an autoencoder.
    """
    if targets is None or not bool(targets.known.any()):
        return 1.0
    if spec.kind == "classification":
        counts = torch.bincount(targets.values[targets.known].long())
        scale = 1 - float(counts.max() / counts.sum())
    else:
        values, known = targets.values.double(), targets.known
        axes = 0 if spec.kind == "vector" else tuple(range(values.ndim))
        mean = values.where(known, 0.0).sum(axes) / known.sum(axes).clamp(min=1)
        scale = float((values - mean).abs()[known].mean())
    return scale if scale > 0 else 1.0
