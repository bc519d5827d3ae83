"""What weights were trained on, in the file that holds them: which materials, and with labels of which tasks.

Ids and reduced formulas are 64-bit hashes: enough to find an overlap, and small. n materials, P tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystrata.errors import ModelError

TENSORS = ("ids", "formulas", "labelled")


def hashes(names: Sequence[str]) -> np.ndarray:
    """Return a 64-bit hash of each name, (n,) int64."""
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    return np.array([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=np.int64)


@dataclass(frozen=True)
class TrainingRecord:
    """The materials that weights were trained on, by themselves and by those that they started from.

    Attributes:
        ids: Hash of each id, (n,), ascending and distinct.
        formulas: Hash of each reduced formula, (n,).
        labelled: Whether each material had a known label of each task, (n, P).
        tasks: Names of the P tasks.
    """

    ids: np.ndarray
    formulas: np.ndarray
    labelled: np.ndarray
    tasks: tuple[str, ...]

    @classmethod
    def of(cls, ids: Sequence[str], formulas: Sequence[str], known: Mapping[str, np.ndarray]) -> TrainingRecord:
        """Make the record of n materials and of the tasks whose labels they have, task -> (n,)."""
        found, first = np.unique(hashes(ids), return_index=True)
        labelled = np.stack([known[name] for name in known], axis=1) if known else np.zeros((len(ids), 0), dtype=bool)
        return cls(found, hashes(formulas)[first], labelled[first], tuple(known))

    def joined(self, earlier: TrainingRecord | None) -> TrainingRecord:
        """Return the record of these materials and of those that the weights to start from were trained on."""
        if earlier is None:
            return self
        tasks = tuple(dict.fromkeys((*self.tasks, *earlier.tasks)))
        ids, first = np.unique(np.concatenate([self.ids, earlier.ids]), return_index=True)
        formulas = np.concatenate([self.formulas, earlier.formulas])[first]
        labelled = np.zeros((len(ids), len(tasks)), dtype=bool)
        for record in (self, earlier):
            rows = np.searchsorted(ids, record.ids)
            for column, name in enumerate(record.tasks):
                labelled[rows, tasks.index(name)] |= record.labelled[:, column]
        return TrainingRecord(ids, formulas, labelled, tasks)

    def saw(self, ids: Sequence[str]) -> np.ndarray:
        """Return whether the weights were trained on each of some materials, (m,)."""
        return np.isin(hashes(ids), self.ids)

    def learned(self, task: str, ids: Sequence[str]) -> np.ndarray:
        """Return whether the weights were trained on the label of a task of each of some materials, (m,)."""
        if task not in self.tasks or not len(self.ids):
            return np.zeros(len(ids), dtype=bool)
        rows = np.minimum(np.searchsorted(self.ids, hashes(ids)), len(self.ids) - 1)
        found: np.ndarray = self.saw(ids) & self.labelled[rows, self.tasks.index(task)]
        return found

    def saw_formulas(self, formulas: Sequence[str]) -> np.ndarray:
        """Return whether the weights were trained on a material of each of some reduced formulas, (m,)."""
        return np.isin(hashes(formulas), self.formulas)

    def as_tensors(self) -> dict[str, Tensor]:
        """Return the arrays as tensors; the names of the tasks belong to the plain values of the file."""
        return {name: torch.from_numpy(np.ascontiguousarray(getattr(self, name))) for name in TENSORS}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> TrainingRecord | None:
        """Return the record of the content of a weights file; None where it has none.

        Raises:
            ModelError: Its parts do not fit each other.
        """
        tensors, tasks = content.get("record"), content["facts"].get("trained_tasks", ())
        if not tensors:
            return None
        try:
            ids, formulas, labelled = (tensors[name].numpy() for name in TENSORS)
            record = cls(ids, formulas, labelled, tuple(tasks))
        except KeyError as error:
            raise ModelError(f"the record of the training materials has no {error}: train again") from None
        if record.labelled.shape != (len(record.ids), len(record.tasks)) or len(record.formulas) != len(record.ids):
            raise ModelError("the parts of the record of the training materials do not fit each other: train again")
        return record
