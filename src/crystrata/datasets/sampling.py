"""The order in which crystals are trained on: a permutation per epoch, a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler


@dataclass(frozen=True)
class Step:
    """Key of what one optimizer step (or one step of an evaluation) reads.

    Attributes:
        rows: Positions in the dataset, (n,).
        part: Crystals per micro-batch.
        epoch: Epoch of the training, which may see other labels than the next one; None in an evaluation.
    """

    rows: np.ndarray
    part: int
    epoch: int | None = None

    def micro_batches(self) -> list[np.ndarray]:
        """Return the positions of each micro-batch."""
        return [self.rows[start : start + self.part] for start in range(0, len(self.rows), self.part)]


class EpochSampler(Sampler[Step]):
    """Yields the steps of an epoch, from any of them on.

    Args:
        rows: Positions of the training part.
        batch_size: Crystals per micro-batch.
        accumulate: Micro-batches per optimizer step.
        seed: Seed of the order.

    Attributes:
        epoch: The epoch that comes, or is under way.
        done: Steps of that epoch that a continued run has behind it.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, *, accumulate: int = 1, seed: int = 0) -> None:
        self.rows, self.batch_size, self.accumulate, self.seed = rows, batch_size, accumulate, seed
        self.epoch, self.done = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls it before each one, also after a resume."""
        if epoch != self.epoch:
            self.epoch, self.done = epoch, 0

    def __len__(self) -> int:
        return -(-len(self.rows) // (self.batch_size * self.accumulate))

    def __iter__(self) -> Iterator[Step]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.rows)
        size = self.batch_size * self.accumulate
        for first in range(self.done * size, len(order), size):
            yield Step(order[first : first + size], self.batch_size, self.epoch)


def fixed_batches(
    rows: np.ndarray, atom_counts: np.ndarray, batch_size: int, max_atoms: int | None = None
) -> list[Step]:
    """Return steps for evaluation: by size, so that small crystals share a batch; the order is always the same.

    Args:
        rows: Positions of the crystals, (n,).
        atom_counts: Atoms of every crystal, by position.
        batch_size: Most crystals of a batch.
        max_atoms: Most atoms of a batch of several crystals.
    """
    order = rows[np.argsort(atom_counts[rows], kind="stable")]
    steps, first = [], 0
    while first < len(order):
        part = order[first : first + batch_size]
        if max_atoms is not None:
            part = part[: max(1, np.searchsorted(np.cumsum(atom_counts[part]), max_atoms, side="right"))]
        steps.append(Step(part, batch_size))
        first += len(part)
    return steps
