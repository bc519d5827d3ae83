"""Which training samples a task sees: by ratio, as replay, drawn again each epoch; and what heads must know of them."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np

from crystrata.datasets.labels import Labels
from crystrata.datasets.random_order import random_stream
from crystrata.errors import DataError, UsageError
from crystrata.tasks import Task

BALANCED = "balanced"
"""As `class_weights` of a head: weights that make all classes count the same, from the training labels."""


def keep_mask(valid: np.ndarray, count: int, *, task: str, seed: int, epoch: int = 0) -> np.ndarray:
    """Choose some of the known training samples of a task at random.

    The choice depends on no other task. Of one seed and epoch, the choice of fewer is part of the choice of more.

    Args:
        valid: True for the training samples with a label, (n,).
        count: Samples to keep, as `ratio_count` or `replay_count` tell.
        task: Name of the task.
        seed: Base seed of the run.
        epoch: Another epoch gives another choice; always 0 keeps the same one.

    Returns:
        True for the samples kept, (n,).
    """
    stream = random_stream(seed, "masks", zlib.crc32(task.encode()), epoch)
    kept = np.zeros(len(valid), dtype=bool)
    kept[stream.permutation(np.flatnonzero(valid))[:count]] = True
    return kept


def ratio_count(ratio: float, valid: int) -> int:
    """Return how many of the valid samples a masking ratio keeps.

    Raises:
        UsageError: The ratio is not within [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise UsageError(f"a masking ratio must be from 0 to 1, not {ratio:g}")
    return round(ratio * valid)


def replay_count(amount: float, valid: int) -> int:
    """Return how many of the valid samples are replayed.

    Args:
        amount: A fraction below 1, or a whole number of samples; more than there are means all.
        valid: Samples to choose from.

    Raises:
        UsageError: The amount is negative, or neither a fraction nor a whole number.
    """
    if 0 <= amount < 1:
        return ratio_count(amount, valid)
    if not amount >= 0 or amount != amount // 1:
        raise UsageError(f"replay amounts are fractions below 1 or whole numbers of samples, not {amount:g}")
    return int(min(amount, valid))


def balanced_class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the weight N / (K N_k) of each of K classes, (K,) float32; an absent class gets the largest weight found.

    Args:
        labels: Classes of the training samples, (N,); -1 where unknown.
        classes: Number of classes K.

    Raises:
        DataError: No label is known.
    """
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    if not counts.any():
        raise DataError("balanced class weights need at least one training label")
    weights = counts.sum() / (classes * np.maximum(counts, 1))
    return np.where(counts > 0, weights, weights[counts > 0].max()).astype(np.float32)


def with_label_widths(task: Task, labels: Labels, train: np.ndarray) -> Task:
    """Return a task whose head knows what only labels tell; what its settings name already stays.

    That is the number of components of a vector, the longest of sequences without a coordinate, and balanced class
    weights.

    Args:
        task: The task.
        labels: Its labels, of all parts.
        train: Rows of the training part.
    """
    head = dict(task.head)
    if task.kind == "vector":
        head.setdefault("components", labels.width)
    elif task.kind == "sequence" and (task.subtype == "vec" or not task.t_column):
        head.setdefault("seq_len", int(np.diff(labels.offsets).max(initial=1)))
    elif head.get("class_weights") == BALANCED:
        head["class_weights"] = balanced_class_weights(labels.values[train], len(task.classes)).tolist()
    return replace(task, head=head)
