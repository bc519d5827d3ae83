"""The dataset: graphs from the store joined with targets. n crystals, P properties, B crystals of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from crystrata.compositions.fractions import atomic_fractions
from crystrata.datasets.labelled_batch import Components, LabelledBatch
from crystrata.datasets.sampling import Step
from crystrata.datasets.targets import component_targets, target_matrix
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.batch import ALL_ATOMS, BatchForm, collate
from crystrata.graphs.store import Progress, open_store
from crystrata.hull import CONVENTIONS, TrainingHull, formula_counts, training_hull
from crystrata.properties import GROUPS, get_property, trained_properties
from crystrata.sources.table import CrystalTable

if TYPE_CHECKING:
    from torch_geometric.data import Data


class CrystalPropertyDataset(Dataset):
    """Crystals of a table with the targets of some properties; graphs with angles come from the store.

    The first construction builds the store, every later one opens it, whatever the properties. Item i is a
    `torch_geometric.data.Data` for people; the trainer reads `batch`, a vectorised slice.

    Args:
        table: Crystals and labels.
        stores: Folder of the graph stores.
        properties: Names of the properties; one that is derived stands for the one it follows from.
        graph: Settings of the neighbourhoods.
        workers: Processes that build the store.
        progress: Called with (done, in all) while the store is built.
    """

    def __init__(
        self,
        table: CrystalTable,
        stores: Path,
        properties: Sequence[str] = GROUPS["all9"],
        graph: GraphSettings | None = None,
        *,
        workers: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.properties = trained_properties(properties)
        self.store = open_store(table, graph or GraphSettings(), stores, workers=workers, progress=progress)
        self.labels = table.labels.iloc[np.asarray(self.graphs.source_row)]
        self.ids: list[str] = self.labels.index.astype(str).tolist()
        self.targets = target_matrix(self.labels, self.properties)
        self.components = component_targets(self.labels, self.properties)

    @property
    def graphs(self) -> GraphArrays:
        """The mapped graphs of all crystals."""
        return self.store.arrays

    @property
    def atom_counts(self) -> np.ndarray:
        """Atoms of each crystal, (n,)."""
        return np.asarray(self.graphs.atom_counts)

    @property
    def known(self) -> dict[str, np.ndarray]:
        """Property -> whether the label of each crystal is known, (n,)."""
        return {name: np.isfinite(self.targets[:, column]) for column, name in enumerate(self.properties)}

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, index: int) -> Data:
        """Return one crystal as a PyG graph with its angles.

        Its fields: z (N,), edge_index (2, E) neighbour -> centre, edge_vec (E, 3) [A], edge_dist (E,) [A], radius (N,)
        [A], angle_index (2, T) edge ids, angle_cos (T,), y (1, P) with NaN where unknown, id.
        """
        from torch_geometric.data import Data

        if not -len(self) <= index < len(self):
            raise IndexError(f"crystal {index} of {len(self)}")
        batch = collate(self.graphs, np.array([index % len(self)]), angles=True)
        return Data(
            z=batch.numbers,
            edge_index=torch.stack([batch.neighbour, batch.centre]),
            edge_vec=batch.vector,
            edge_dist=torch.linalg.vector_norm(batch.vector, dim=1),
            radius=batch.radius,
            angle_index=batch.pair,
            angle_cos=batch.cosine,
            y=torch.from_numpy(self.targets[[index]]),
            num_nodes=len(batch.numbers),
            id=self.ids[index],
        )

    def training_hull(
        self, name: str, train: np.ndarray, cache_dir: Path, progress: Progress | None = None
    ) -> TrainingHull:
        """Return the convex hull of the training energies; no other label passes through it.

        Args:
            name: Property that is the distance from it.
            train: Positions that span the hull.
            cache_dir: Where hulls are kept; the same energies and rows are never solved twice.
            progress: Called with (done, in all).
        """
        energies = self.labels[get_property("formation_energy").columns[0]].to_numpy(dtype=np.float64)
        reference = np.zeros(len(self), dtype=bool)
        reference[train] = True
        counts = formula_counts(self.labels["formula"])
        return training_hull(CONVENTIONS[name], counts, energies, reference, cache_dir, progress)

    def batches(self, step: Step, form: BatchForm = ALL_ATOMS) -> list[LabelledBatch]:
        """Return the labelled micro-batches of a step, in the form that a network reads."""
        counts = torch.from_numpy(np.isfinite(self.targets[step.rows]).sum(axis=0))
        return [self._batch(rows, counts, len(rows) / len(step.rows), form) for rows in step.micro_batches()]

    def _batch(self, rows: np.ndarray, step_counts: Tensor, share: float, form: BatchForm) -> LabelledBatch:
        targets = torch.from_numpy(self.targets[rows])
        labelled = ~torch.isnan(targets[:, [self.properties.index(name) for name in form.whole]]).all(1)
        whole = torch.nonzero(labelled).squeeze(1).numpy() if form.whole else None
        return LabelledBatch(
            crystals=collate(self.graphs, rows, angles=form.angles, distinct=form.distinct, whole=whole),
            targets=targets.nan_to_num(0.0),
            mask=~torch.isnan(targets),
            step_counts=step_counts,
            share=share,
            rows=torch.from_numpy(np.asarray(rows, dtype=np.int64)),
            components={name: _components(values[rows]) for name, values in self.components.items()},
        )

    def fractions(self, rows: np.ndarray) -> Tensor:
        """Return the atomic fractions of some crystals, (n, 103): what the composition ridge is fitted on."""
        return torch.from_numpy(
            atomic_fractions(np.asarray(self.graphs.numbers), self.graphs.atom_offsets)[np.asarray(rows)]
        )


def _components(values: np.ndarray) -> Components:
    """Return component labels (B, k), all or none known, with their mask."""
    known = np.isfinite(values).all(axis=1)
    return Components(torch.from_numpy(np.nan_to_num(values)), torch.from_numpy(known))
