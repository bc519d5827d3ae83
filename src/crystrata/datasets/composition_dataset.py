"""The dataset of compositions: descriptors and, where they have one, crystals, joined with the labels of all tasks.

N compositions, D descriptor width, B of a batch, k components of a vector, M points of curves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from crystrata.datasets.composition_batch import CompositionBatch
from crystrata.datasets.sampling import Step
from crystrata.datasets.task_targets import TaskTargets
from crystrata.datasets.tasks.masks import keep_mask, ratio_count
from crystrata.datasets.tasks.specs import TaskSpec
from crystrata.datasets.tasks.tables import TaskLabels
from crystrata.datasets.tasks.universe import Universe
from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.batch import ALL_ATOMS, BatchForm, collate


@dataclass(frozen=True)
class Structures:
    """Crystals of compositions.

    Attributes:
        graphs: Of all crystals.
        row: Crystal of each composition, (N,); -1 where it has none.
    """

    graphs: GraphArrays
    row: np.ndarray


class CompositionDataset(Dataset):
    """Compositions of a universe with the labels of its tasks, in batches for the trainer.

    Of a task that is to see only some of its training samples, each epoch sees others.

    Args:
        universe: The compositions.
        descriptors: (N, D) float32, NaN where unknown.
        specs: The tasks.
        labels: Task -> labels; none for an autoencoder.
        train: Rows of the training part.
        seed: Seed of the choice of samples.
        kept: Task -> number of its training samples that an epoch sees; by `task_masking_ratio` if not given.
        redraw: Whether each epoch chooses anew.
        structures: Crystals, for a network that reads them.
    """

    def __init__(
        self,
        universe: Universe,
        descriptors: np.ndarray,
        specs: Sequence[TaskSpec],
        labels: Mapping[str, TaskLabels],
        train: np.ndarray,
        *,
        seed: int = 0,
        kept: Mapping[str, int] | None = None,
        redraw: bool = True,
        structures: Structures | None = None,
    ) -> None:
        self.universe, self.descriptors, self.specs, self.labels = universe, descriptors, tuple(specs), labels
        self.train, self.seed, self.redraw, self.structures = train, seed, redraw, structures
        counts = {spec.name: int(universe.known[spec.name][train].sum()) for spec in specs if spec.name in labels}
        ratios = {spec.name: spec.task_masking_ratio for spec in specs if spec.name in labels}
        self.kept = {name: ratio_count(ratio, counts[name]) for name, ratio in ratios.items()} | dict(kept or {})
        self._limited = [name for name, count in self.kept.items() if count < counts[name]]
        self._visible: tuple[int, dict[str, np.ndarray]] | None = None

    def __len__(self) -> int:
        return len(self.universe)

    @property
    def ids(self) -> Sequence[str]:
        """Key of each composition."""
        return self.universe.keys

    @property
    def atom_counts(self) -> np.ndarray:
        """Atoms of the crystal of each composition, (N,); 0 where it has none."""
        counts = np.zeros(len(self), dtype=np.int64)
        if self.structures is not None:
            there = self.structures.row >= 0
            counts[there] = np.asarray(self.structures.graphs.atom_counts)[self.structures.row[there]]
        return counts

    @property
    def known(self) -> dict[str, np.ndarray]:
        """Task -> whether each composition has a known label, (N,); an autoencoder needs none."""
        everywhere = np.ones(len(self), dtype=bool)
        return {spec.name: self.universe.known.get(spec.name, everywhere) for spec in self.specs}

    def batches(self, step: Step, form: BatchForm | None = None) -> list[CompositionBatch]:
        """Return the micro-batches of a step; in an epoch of the training with the labels that it may see."""
        visible = {} if step.epoch is None else self._visible_in(step.epoch)
        return [
            self._batch(rows, len(rows) / len(step.rows), visible, form, training=step.epoch is not None)
            for rows in step.micro_batches()
        ]

    def training_labels(self, names: Iterable[str] | None = None) -> dict[str, TaskTargets]:
        """Return the labels that the first epoch may see of some tasks (of all if not given), of all training rows."""
        visible, wanted = self._visible_in(0), set(self.labels if names is None else names)
        chosen = [spec for spec in self.specs if spec.name in self.labels and spec.name in wanted]
        return {spec.name: self._targets(spec, self.train, visible) for spec in chosen}

    def _visible_in(self, epoch: int) -> dict[str, np.ndarray]:
        """Return which rows an epoch of the training sees the label of, (N,), for the tasks where it is not all."""
        epoch = epoch if self.redraw else 0
        if self._visible is None or self._visible[0] != epoch:
            masks = {}
            for name in self._limited:
                valid = self.universe.known[name][self.train]
                masks[name] = np.zeros(len(self), dtype=bool)
                masks[name][self.train] = keep_mask(valid, self.kept[name], task=name, seed=self.seed, epoch=epoch)
            self._visible = epoch, masks
        return self._visible[1]

    def _batch(
        self,
        rows: np.ndarray,
        share: float,
        visible: Mapping[str, np.ndarray],
        form: BatchForm | None,
        *,
        training: bool,
    ) -> CompositionBatch:
        labelled = (spec for spec in self.specs if spec.name in self.labels)
        labels = {spec.name: self._targets(spec, rows, visible) for spec in labelled}
        if training:
            labels = {name: targets for name, targets in labels.items() if targets.known.any()}
        graph_rows, crystals = np.zeros(0, dtype=np.int64), None
        if self.structures is not None:
            graph_rows = np.flatnonzero(self.structures.row[rows] >= 0)
        if self.structures is not None and len(graph_rows):
            found, form = self.structures.row[rows[graph_rows]], form or ALL_ATOMS
            crystals = collate(self.structures.graphs, found, angles=form.angles, distinct=form.distinct)
        return CompositionBatch(
            descriptor=torch.from_numpy(self.descriptors[rows]),
            labels=labels,
            share=share,
            rows=torch.from_numpy(np.asarray(rows, dtype=np.int64)),
            crystals=crystals,
            graph_rows=torch.from_numpy(graph_rows),
        )

    def _targets(self, spec: TaskSpec, rows: np.ndarray, visible: Mapping[str, np.ndarray]) -> TaskTargets:
        samples = self.universe.position[spec.name][rows]
        if spec.name in visible:
            samples = np.where(visible[spec.name][rows], samples, -1)
        targets = task_targets(self.labels[spec.name], samples)
        if spec.kind == "sequence":
            return targets.padded()
        if spec.kind != "vector" and targets.lengths is None:
            return TaskTargets(targets.values.squeeze(1), targets.known.squeeze(1))
        return targets


def task_targets(labels: TaskLabels, samples: np.ndarray) -> TaskTargets:
    """Return the labels of some samples, (B,), nothing known where one is -1: (B, k), or ragged for curves."""
    there, at = samples >= 0, np.maximum(samples, 0)
    first = labels.offsets[:-1][at] if len(labels) else np.zeros(len(samples), dtype=np.int64)
    if labels.width is None:
        lengths = np.where(there, labels.offsets[1:][at] - first, 0) if len(labels) else np.zeros_like(first)
        place = np.repeat(first - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        t = None if labels.t is None else torch.from_numpy(labels.t[place])
        known = torch.from_numpy(labels.known[place])
        return TaskTargets(_known_values(labels, place), known, t, torch.from_numpy(lengths))
    if not len(labels):
        unknown = np.zeros((len(samples), labels.width), dtype=bool)
        return TaskTargets(torch.from_numpy(unknown.astype(labels.values.dtype)), torch.from_numpy(unknown))
    place = first[:, None] + np.arange(labels.width)
    return TaskTargets(_known_values(labels, place), torch.from_numpy(labels.known[place] & there[:, None]))


def _known_values(labels: TaskLabels, place: np.ndarray) -> torch.Tensor:
    """Return values at some places, 0 where unknown."""
    return torch.from_numpy(np.where(labels.known[place], labels.values[place], 0).astype(labels.values.dtype))
