"""What the trainer asks of batches and datasets, whatever they hold: crystals or compositions. n samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from crystrata.datasets.sampling import Step


class TrainingBatch(Protocol):
    """A micro-batch with its labels; what is in it only its network knows.

    Attributes:
        share: Part of the optimiser step that this batch is.
        rows: Position of each sample in the dataset, (B,).
    """

    @property
    def share(self) -> float: ...

    @property
    def rows(self) -> Tensor: ...

    def to(self, device: torch.device | str) -> Self: ...

    def pin_memory(self) -> Self: ...


class TrainingData(Protocol):
    """A dataset as the data module sees it.

    Attributes:
        ids: Id of each sample.
        atom_counts: Atoms of each sample, (n,): small crystals share a batch of an evaluation.
        known: Task -> whether each sample has a known label, (n,).
    """

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def atom_counts(self) -> np.ndarray: ...

    @property
    def known(self) -> Mapping[str, np.ndarray]: ...

    def batches(self, step: Step, form: Any) -> Sequence[TrainingBatch]:
        """Return the micro-batches of a step, in the form that a network reads."""
