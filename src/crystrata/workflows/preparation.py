"""Before training: source, graph store, split, targets and hull of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from crystrata.datasets.data_module import BatchDataModule
from crystrata.datasets.dataset import CrystalPropertyDataset
from crystrata.datasets.outliers import OutlierCheck, check_outliers
from crystrata.datasets.splits import (
    PARTS,
    Candidates,
    Split,
    SplitRequest,
    keep_rows,
    keep_unseen,
    resolve_split,
    subsample,
)
from crystrata.datasets.targets import own_labels
from crystrata.elements import SYMBOLS
from crystrata.hull import TrainingHull
from crystrata.hull.derived import with_derived
from crystrata.properties import get_property, resolve_properties
from crystrata.runs.config import RunConfig
from crystrata.sources.opening import named_file, open_source
from crystrata.sources.table import CrystalTable
from crystrata.workflows.loaders import loaders


@dataclass(frozen=True)
class PreparedData:
    """The data of a run, ready to train on.

    Attributes:
        data: Loaders over dataset and split, checked.
        hulls: Property -> convex hull of the training energies, for each that is a distance from one.
        outliers: What the outlier check found; training labels that it masks are unknown to `data`.
        facts: What the manifest records about the data.
    """

    data: BatchDataModule[CrystalPropertyDataset]
    hulls: dict[str, TrainingHull]
    outliers: OutlierCheck
    facts: dict[str, Any]

    def weights_facts(self, config: RunConfig) -> dict[str, Any]:
        """Return what inference must know about the training; goes into the weights file."""
        fractions = self.data.dataset.fractions(self.data.split.train)
        elements = [symbol for symbol, seen in zip(SYMBOLS, (fractions > 0).any(0).tolist(), strict=True) if seen]
        facts = {
            "algorithm": config.algorithm,
            "mode": config.mode,
            "properties": list(config.properties),
            "elements": elements,
            "source": {key: self.facts["source"][key] for key in ("name", "demo", "digest")},
            "split_digest": self.facts["split"]["digest"],
        }
        references = {name: hull.reference for name, hull in self.hulls.items()}
        facts["hulls"] = {
            name: {"counts": torch.from_numpy(hull.counts), "energies": torch.from_numpy(hull.energies)}
            for name, hull in references.items()
        }
        return facts


def prepare_data(config: RunConfig, console: Console, *, seen: Collection[str] = ()) -> PreparedData:
    """Open source, store, split, targets and hull of a run.

    Args:
        config: The run.
        console: Where progress goes.
        seen: Ids of the crystals that the weights to start from were trained on: none of them is validated on.

    Raises:
        CrystrataError: The source is unusable, a property has no label to train on, or a tested crystal was seen.
    """
    data_dir = Path(config.data_dir)
    table = open_source(config.source, config.release, config.data_file, data_dir, console)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("building the graph store", total=None, visible=False)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        dataset = CrystalPropertyDataset(
            table, data_dir / "stores", config.properties, config.graph, workers=config.workers, progress=progress
        )
        bar.update(task, description="symmetry of the crystals", visible=False)
        whole = resolve_split(config.split, _split_request(config, dataset, progress))
        whole = keep_unseen(whole, dataset.ids, seen) if seen else whole
        hulls = {}
        for name in config.properties:
            if get_property(name).derived_from:
                bar.update(task, description="convex hull of the training energies", completed=0)
                energies = _sound_energies(config, dataset, whole)
                hulls[name] = dataset.training_hull(name, energies, data_dir / "hulls", progress)
    split = keep_rows(whole, np.isfinite(dataset.targets).any(axis=1))
    if config.max_samples is not None and config.max_samples < len(dataset):
        split = subsample(split, config.max_samples, dataset.ids)
    outliers = _mask_outliers(config, dataset, split, hulls)
    data = loaders(config, dataset, split)
    data.check()
    facts = {**_facts(table, data, split), "outliers": outliers.table["action"].value_counts().to_dict()}
    return PreparedData(data, hulls, outliers, facts)


def _split_request(
    config: RunConfig, dataset: CrystalPropertyDataset, progress: Callable[[int, int], None]
) -> SplitRequest:
    data_file = named_file(config.release, config.data_file)
    return SplitRequest(
        Candidates.of(dataset),
        config.seed,
        Path(config.data_dir),
        splits_file=Path(config.splits_file) if config.splits_file else None,
        data_file=data_file,
        workers=config.workers,
        progress=progress,
    )


def _sound_energies(config: RunConfig, dataset: CrystalPropertyDataset, split: Split) -> np.ndarray:
    """Return the training rows whose formation energy may span the hull: one outlier would bend a whole system."""
    if "formation_energy" not in dataset.properties:
        return split.train
    names = ("formation_energy",)
    energies = with_derived(names, dataset.properties, dataset.targets, {})
    check = check_outliers(names, energies, split, dataset.ids, limit=config.outlier_z, mask=config.outlier_filter)
    return split.train[~check.masked_for(names)[split.train, 0]]


def _mask_outliers(
    config: RunConfig, dataset: CrystalPropertyDataset, split: Split, hulls: dict[str, TrainingHull]
) -> OutlierCheck:
    """Check the labels of all reported and trained properties; forget the training labels that cannot be right."""
    names = resolve_properties((*config.properties, *dataset.properties))
    levels = {name: hull.levels for name, hull in hulls.items()}
    labels = with_derived(names, dataset.properties, dataset.targets, levels, own_labels(dataset.labels, names))
    outliers = check_outliers(names, labels, split, dataset.ids, limit=config.outlier_z, mask=config.outlier_filter)
    masked = outliers.masked_for(dataset.properties)
    dataset.targets[masked] = np.nan
    for name, components in dataset.components.items():
        components[masked[:, dataset.properties.index(name)]] = np.nan
    return outliers


def _facts(table: CrystalTable, data: BatchDataModule[CrystalPropertyDataset], split: Split) -> dict[str, Any]:
    return {
        "source": {"name": table.name, "demo": table.demo, "digest": table.digest, **table.provenance},
        "store": data.dataset.store.path.name,
        "split": {"protocol": split.protocol, "digest": split.as_dict(data.dataset.ids)["digest"], **split.notes},
        "crystals": {part: len(split.part(part)) for part in PARTS},
        "labels": data.label_counts(),
        "labels_digest": hashlib.sha256(np.ascontiguousarray(data.dataset.targets).data).hexdigest(),
    }
