"""The order in which crystals are trained on: a permutation per epoch, a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler


@dataclass(frozen=True)
class MicroBatch:
    """Key of one batch: its rows, and all rows of the optimiser step that it belongs to.

    Attributes:
        rows: Positions in the dataset, (B,).
        step_rows: Positions of the whole step, so that label counts are exact under accumulation.
    """

    rows: np.ndarray
    step_rows: np.ndarray

    @property
    def share(self) -> float:
        """Part of the step that this micro-batch is."""
        return len(self.rows) / len(self.step_rows)


class EpochSampler(Sampler[MicroBatch]):
    """Yields the micro-batches of an epoch.

    Args:
        rows: Positions of the training part.
        batch_size: Crystals per micro-batch.
        accumulate: Micro-batches per optimiser step.
        seed: Seed of the order.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, *, accumulate: int = 1, seed: int = 0) -> None:
        self.rows, self.batch_size, self.accumulate, self.seed = rows, batch_size, accumulate, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls it before each one, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[MicroBatch]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.rows)
        step = self.batch_size * self.accumulate
        for first in range(0, len(order), step):
            step_rows = order[first : first + step]
            for start in range(0, len(step_rows), self.batch_size):
                yield MicroBatch(step_rows[start : start + self.batch_size], step_rows)


def fixed_batches(
    rows: np.ndarray, atom_counts: np.ndarray, batch_size: int, max_atoms: int | None = None
) -> list[MicroBatch]:
    """Return batches for evaluation: by size, so that small crystals share a batch; the order is always the same.

    Args:
        rows: Positions of the crystals, (n,).
        atom_counts: Atoms of every crystal, by position.
        batch_size: Most crystals of a batch.
        max_atoms: Most atoms of a batch of several crystals.
    """
    order = rows[np.argsort(atom_counts[rows], kind="stable")]
    batches, first = [], 0
    while first < len(order):
        part = order[first : first + batch_size]
        if max_atoms is not None:
            part = part[: max(1, np.searchsorted(np.cumsum(atom_counts[part]), max_atoms, side="right"))]
        batches.append(MicroBatch(part, part))
        first += len(part)
    return batches
