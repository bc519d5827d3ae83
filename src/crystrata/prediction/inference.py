"""Running a network over many materials: batches by size, results in input order.

n materials, d latent width, M values in long form: of samples, components, points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crystrata.datasets.batch import Targets
from crystrata.datasets.dataset import MaterialDataset
from crystrata.datasets.materials import Materials, Structures
from crystrata.datasets.sampling import Step, fixed_batches
from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.batch import BatchForm
from crystrata.networks.ensemble import Ensemble
from crystrata.networks.network import Network

_BATCH = 64
_BATCH_ATOMS = 4_000  # of large cells; the pro network takes about 0.1 MB per atom
_LONG_BATCH = 256


class Evaluated(NamedTuple):
    """What a network predicts for n materials.

    Attributes:
        values: Predictions of tasks of one number in physical units, task -> (n,) float64.
        details: Further columns of the heads, title -> (n,).
        latents: Of the materials, (n, d) float32.
    """

    values: dict[str, np.ndarray]
    details: dict[str, np.ndarray]
    latents: np.ndarray


def of_graphs(graphs: GraphArrays) -> MaterialDataset:
    """Return crystals without labels as a dataset."""
    ids = tuple(map(str, range(len(graphs))))
    return MaterialDataset(Materials(ids, ids, structures=Structures(graphs, np.arange(len(graphs)))), (), {})


def evaluate_graphs(network: Network | Ensemble, graphs: GraphArrays, rows: np.ndarray | None = None) -> Evaluated:
    """Return what a network predicts for some crystals, in the order of `rows`; for all graphs if not given."""
    return evaluate_rows(network, of_graphs(graphs), rows)


def evaluate_rows(network: Network | Ensemble, dataset: MaterialDataset, rows: np.ndarray | None = None) -> Evaluated:
    """Return what a network predicts for some materials, in the order of `rows`; for all if not given."""
    rows = np.arange(len(dataset)) if rows is None else np.asarray(rows)
    n, device = len(dataset), network.device
    names = [task.name for task in network.tasks if task.is_number]
    values = {name: np.full(n, np.nan) for name in names}
    details = {title: np.full(n, np.nan) for title in network.detail_titles}
    latents = np.full((n, network.latent_width), np.nan, dtype=np.float32)
    network.eval()
    with torch.inference_mode():
        for step in fixed_batches(rows, dataset.atom_counts, _BATCH, _BATCH_ATOMS):
            batch = dataset.batches(step, evaluation_form(network))[0].to(device)
            found, further, latent = network.evaluate(batch)
            latents[step.rows] = latent.cpu().numpy()
            for name, column in (*found.items(), *further.items()):
                (values if name in values else details)[name][step.rows] = column.cpu().numpy()
    return Evaluated(
        {name: column[rows] for name, column in values.items()},
        {title: column[rows] for title, column in details.items()},
        latents[rows],
    )


def evaluation_form(network: Network | Ensemble) -> BatchForm | None:
    """Return what a network reads of graphs that it evaluates: all atoms; None where it reads none."""
    return BatchForm(network.needs_angles) if network.reads_crystals else None


@dataclass(frozen=True)
class TaskPredictions:
    """Predictions of one task in long form.

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
def predict_rows(network: Network | Ensemble, dataset: MaterialDataset, rows: np.ndarray) -> dict[str, TaskPredictions]:
    """Return the predictions of all tasks that have labels, for rows (n,) of a dataset, in their order."""
    parts: dict[str, list[TaskPredictions]] = {task.name: [] for task in network.tasks if task.name in dataset.labels}
    members = network.members if isinstance(network, Ensemble) else [network]
    for batch in dataset.batches(Step(rows, _LONG_BATCH), evaluation_form(network)):
        predicted = [member(batch.to(network.device), parts) for member in members]
        for name, collected in parts.items():
            value = torch.stack([one[name] for one in predicted if name in one]).float().mean(0)
            collected.append(_long_form(batch.targets[name], value.cpu(), batch.rows.numpy()))
    return {name: _joined(collected) for name, collected in parts.items() if collected}


def _long_form(targets: Targets, predicted: Tensor, rows: np.ndarray) -> TaskPredictions:
    if targets.lengths is None:
        width = 1 if targets.values.ndim == 1 else targets.values.shape[1]
        component = np.tile(np.arange(width), len(rows)) if targets.values.ndim > 1 else None
        chosen, row = torch.ones_like(targets.known), np.repeat(rows, width)
    else:
        chosen = torch.ones_like(targets.known) if targets.is_ragged else targets.present
        lengths = targets.lengths.numpy()
        row = np.repeat(rows, lengths)
        component = (
            np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths) if targets.t is None else None
        )
    unknown = -1 if not targets.values.is_floating_point() else torch.nan
    true = targets.values.where(targets.known, unknown)[chosen].flatten().numpy()
    t = None if targets.t is None else targets.t[chosen].flatten().numpy()
    value = predicted if targets.values.is_floating_point() else predicted.long()
    return TaskPredictions(row, true, value[chosen].flatten().numpy(), t, component)


def _joined(parts: Sequence[TaskPredictions]) -> TaskPredictions:
    def all_of(name: str) -> Any:
        pieces = [getattr(part, name) for part in parts]
        return None if pieces[0] is None else np.concatenate(pieces)

    return TaskPredictions(**{name: all_of(name) for name in ("row", "true", "predicted", "t", "component")})
