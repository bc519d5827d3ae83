"""The dataset: materials joined with the labels of all tasks, in batches for the trainer.

n materials, D descriptor width, P tasks of one number, B materials of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from crystrata.compositions.keys import atomic_fractions
from crystrata.datasets.batch import Batch, Targets
from crystrata.datasets.labels import Labels, column_labels
from crystrata.datasets.masks import keep_mask, ratio_count
from crystrata.datasets.materials import Materials, Structures
from crystrata.datasets.sampling import Step
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.batch import ALL_ATOMS, BatchForm, collate
from crystrata.graphs.store import Progress, open_store
from crystrata.jarvis_properties import GROUPS, property_tasks, trained_tasks
from crystrata.sources.table import CrystalTable
from crystrata.tasks import Task

if TYPE_CHECKING:
    from torch_geometric.data import Data


class MaterialDataset(Dataset):
    """Materials with the labels of tasks. Item i is a PyG graph for people; the trainer reads `batches`.

    Of a task that is to see only some of its training samples, each epoch sees others.

    Args:
        materials: The materials.
        tasks: Tasks that have a head.
        labels: Task -> labels, one a material; none for an autoencoder.
        descriptors: Of the compositions, (n, D) float32, NaN where unknown; None where nothing reads them.
        train: Rows of the training part, for tasks that see only some of it.
        seed: Seed of the choice of samples.
        redraw: Whether each epoch chooses again.
    """

    def __init__(
        self,
        materials: Materials,
        tasks: Sequence[Task],
        labels: Mapping[str, Labels],
        *,
        descriptors: np.ndarray | None = None,
        train: np.ndarray | None = None,
        seed: int = 0,
        redraw: bool = True,
    ) -> None:
        self.materials, self.tasks, self.labels = materials, tuple(tasks), dict(labels)
        self.descriptors, self.seed, self.redraw = descriptors, seed, redraw
        self._visible: tuple[int, dict[str, np.ndarray]] | None = None
        self.train_on(np.arange(len(materials)) if train is None else train)

    def train_on(self, rows: np.ndarray) -> None:
        """Say which rows are trained on: of these, tasks with a masking ratio see some."""
        self.train, self._visible = rows, None
        counts = {name: int(labels.known_samples[rows].sum()) for name, labels in self.labels.items()}
        ratios = {task.name: task.task_masking_ratio for task in self.tasks if task.name in self.labels}
        kept = {name: ratio_count(ratio, counts[name]) for name, ratio in ratios.items()}
        self._limits = {name: count for name, count in kept.items() if count < counts[name]}

    @property
    def ids(self) -> Sequence[str]:
        """Id of each material."""
        return self.materials.ids

    @property
    def structures(self) -> Structures | None:
        """Crystals of the materials, or None."""
        return self.materials.structures

    @property
    def graphs(self) -> GraphArrays:
        """The mapped graphs of all crystals.

        Raises:
            TypeError: The materials have none.
        """
        if self.materials.structures is None:
            raise TypeError("these materials have no crystals")
        return self.materials.structures.graphs

    @property
    def atom_counts(self) -> np.ndarray:
        """Atoms of the crystal of each material, (n,); 0 where it has none."""
        counts = np.zeros(len(self), dtype=np.int64)
        if (structures := self.materials.structures) is not None:
            there = structures.row >= 0
            counts[there] = np.asarray(structures.graphs.atom_counts)[structures.row[there]]
        return counts

    @property
    def known(self) -> dict[str, np.ndarray]:
        """Task -> whether the label of each material is known, (n,); an autoencoder needs none."""
        everywhere = np.ones(len(self), dtype=bool)
        return {
            task.name: self.labels[task.name].known_samples if task.name in self.labels else everywhere
            for task in self.tasks
        }

    def numbers(self, names: Iterable[str]) -> np.ndarray:
        """Return the labels of tasks of one number, (n, P) float32, NaN where unknown."""
        columns = [self.labels[name].numbers for name in names]
        return np.stack(columns, axis=1) if columns else np.empty((len(self), 0), dtype=np.float32)

    def hide(self, name: str, materials: np.ndarray) -> None:
        """Make the label of a task unknown for some materials, such as outliers; `materials` (n,) is True for them."""
        self.labels[name] = self.labels[name].hidden(materials)
        self.train_on(self.train)

    def __len__(self) -> int:
        return len(self.materials)

    def __getitem__(self, index: int) -> Data:
        """Return one crystal as a PyG graph with its angles.

        Its fields: z (N,), edge_index (2, E) neighbour -> centre, edge_vec (E, 3) [A], edge_dist (E,) [A], radius (N,)
        [A], angle_index (2, T) edge ids, angle_cos (T,), y (1, P) with NaN where unknown, id.
        """
        from torch_geometric.data import Data

        if not -len(self) <= index < len(self):
            raise IndexError(f"material {index} of {len(self)}")
        rows = np.array([index % len(self)])
        batch = collate(self.graphs, self._crystals_of(rows), angles=True)
        numbers = self.numbers(task.name for task in self.tasks if task.is_number)
        return Data(
            z=batch.numbers,
            edge_index=torch.stack([batch.neighbour, batch.centre]),
            edge_vec=batch.vector,
            edge_dist=torch.linalg.vector_norm(batch.vector, dim=1),
            radius=batch.radius,
            angle_index=batch.pair,
            angle_cos=batch.cosine,
            y=torch.from_numpy(numbers[rows]),
            num_nodes=len(batch.numbers),
            id=self.ids[index],
        )

    def batches(self, step: Step, form: BatchForm | None = ALL_ATOMS) -> list[Batch]:
        """Return the micro-batches of a step; in an epoch of the training with the labels that it may see.

        Args:
            step: The step.
            form: What the network reads of the graphs; None where it reads none.
        """
        visible = {} if step.epoch is None or not self._limits else self._visible_in(step.epoch)
        return [self._batch(rows, len(rows) / len(step.rows), visible, form) for rows in step.micro_batches()]

    def training_targets(self, names: Iterable[str] | None = None) -> dict[str, Targets]:
        """Return the labels that the first epoch may see of some tasks (of all if not given), of all training rows."""
        wanted, visible = set(self.labels if names is None else names), self._visible_in(0)
        chosen = [task for task in self.tasks if task.name in self.labels and task.name in wanted]
        return {task.name: self._targets(task, self.train, visible) for task in chosen}

    def fractions(self, rows: np.ndarray) -> Tensor:
        """Return the atomic fractions of some crystals, (B, 103): what a composition ridge is fitted on."""
        graphs = self.graphs
        fractions = atomic_fractions(np.asarray(graphs.numbers), graphs.atom_offsets)
        return torch.from_numpy(fractions[self._crystals_of(np.asarray(rows))])

    def _crystals_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the crystals of some materials, (B,), -1 where one has none."""
        structures = self.materials.structures
        return np.full(len(rows), -1) if structures is None else structures.row[rows]

    def _visible_in(self, epoch: int) -> dict[str, np.ndarray]:
        """Return which labels an epoch of the training sees, (n,), for the tasks where it is not all."""
        epoch = epoch if self.redraw else 0
        if self._visible is None or self._visible[0] != epoch:
            masks = {}
            for name, count in self._limits.items():
                valid = self.labels[name].known_samples[self.train]
                masks[name] = np.zeros(len(self), dtype=bool)
                masks[name][self.train] = keep_mask(valid, count, task=name, seed=self.seed, epoch=epoch)
            self._visible = epoch, masks
        return self._visible[1]

    def _batch(
        self, rows: np.ndarray, share: float, visible: Mapping[str, np.ndarray], form: BatchForm | None
    ) -> Batch:
        targets = {task.name: self._targets(task, rows, visible) for task in self.tasks if task.name in self.labels}
        crystals = crystal_rows = None
        if form is not None and self.materials.structures is not None:
            found = self._crystals_of(rows)
            there = np.flatnonzero(found >= 0)
            if len(there):
                whole = self._labelled(form.whole, targets)[there] if form.whole else None
                crystals = collate(
                    self.graphs,
                    found[there],
                    angles=form.angles,
                    distinct=form.distinct,
                    whole=None if whole is None else np.flatnonzero(whole),
                )
            if len(there) < len(rows):
                crystal_rows = torch.from_numpy(there)
        return Batch(
            rows=torch.from_numpy(np.asarray(rows, dtype=np.int64)),
            targets=targets,
            share=share,
            crystals=crystals,
            crystal_rows=crystal_rows,
            descriptor=None if self.descriptors is None else torch.from_numpy(self.descriptors[rows]),
        )

    def _targets(self, task: Task, rows: np.ndarray, visible: Mapping[str, np.ndarray]) -> Targets:
        targets = self.labels[task.name].targets(rows, visible.get(task.name))
        return targets.padded() if task.kind == "sequence" else targets

    def _labelled(self, names: Sequence[str], targets: Mapping[str, Targets]) -> np.ndarray:
        """Return which materials of a batch have a label of any of some tasks, (B,)."""
        return torch.stack([targets[name].known for name in names]).any(0).numpy()


class CrystalPropertyDataset(MaterialDataset):
    """Crystals of a table with the labels of JARVIS properties; graphs with angles come from the store.

    The first construction builds the store, every later one opens it, whatever the properties.

    Args:
        table: Crystals and labels.
        stores: Folder of the graph stores.
        properties: Names of the properties, or tasks; one that is derived stands for the one it follows from.
        graph: Settings of the neighbourhoods.
        workers: Processes that build the store.
        progress: Called with (done, in all) while the store is built.

    Attributes:
        store: The open store.
    """

    def __init__(
        self,
        table: CrystalTable,
        stores: Path,
        properties: Sequence[str] | Sequence[Task] = GROUPS["all9"],
        graph: GraphSettings | None = None,
        *,
        workers: int = 0,
        progress: Progress | None = None,
    ) -> None:
        named = [one for one in properties if isinstance(one, str)]
        wanted = property_tasks(named) if named else [one for one in properties if isinstance(one, Task)]
        self.store = open_store(table, graph or GraphSettings(), stores, workers=workers, progress=progress)
        arrays = self.store.arrays
        labels = table.labels.iloc[np.asarray(arrays.source_row)]
        materials = Materials(
            ids=tuple(map(str, labels.index)),
            formulas=tuple(map(str, labels["formula"])),
            structures=Structures(arrays, np.arange(len(arrays))),
            table=labels,
            demo=table.demo,
        )
        tasks = trained_tasks(wanted)
        super().__init__(materials, tasks, {task.name: column_labels(task, labels) for task in tasks})
