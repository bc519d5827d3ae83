"""Before training: materials, labels, descriptors, split, hull and outliers of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from crystrata.compositions.keys import known_weights
from crystrata.datasets.data_module import BatchDataModule
from crystrata.datasets.dataset import MaterialDataset
from crystrata.datasets.labels import Labels, column_labels
from crystrata.datasets.masks import with_label_widths
from crystrata.datasets.materials import Materials
from crystrata.datasets.outliers import OutlierCheck, check_outliers
from crystrata.datasets.splits import (
    PARTS,
    Candidates,
    Split,
    SplitRequest,
    keep_rows,
    keep_unseen,
    parse_protocol,
    resolve_split,
    subsample,
)
from crystrata.elements import SYMBOLS
from crystrata.errors import UsageError
from crystrata.hull import CONVENTIONS, TrainingHull, formula_counts, training_hull
from crystrata.hull.conventions import with_derived
from crystrata.jarvis_properties import get_property
from crystrata.networks.device import resolve_device
from crystrata.networks.training_record import TrainingRecord
from crystrata.runs.config import OWN_TABLES, RunConfig
from crystrata.sources.jarvis.download import get_release
from crystrata.sources.opening import named_file
from crystrata.tasks import Task
from crystrata.workflows.sources import NO_INPUTS, Inputs, from_source, from_tables, labels_digest


@dataclass(frozen=True)
class Prepared:
    """The data of a run, ready to train on.

    Attributes:
        data: Loaders over dataset and split, checked.
        hulls: Task -> convex hull of the training energies, for each that is a distance from one.
        outliers: What the outlier check found; training labels that it masks are unknown to `data`.
        facts: What the manifest records about the data.
    """

    data: BatchDataModule
    hulls: dict[str, TrainingHull]
    outliers: OutlierCheck
    facts: dict[str, Any]

    @property
    def dataset(self) -> MaterialDataset:
        """The materials with their labels."""
        return self.data.dataset

    @property
    def split(self) -> Split:
        """Rows of each part."""
        return self.data.split

    def weights_facts(self, config: RunConfig) -> dict[str, Any]:
        """Return what inference must know about the training; goes into the weights file."""
        facts: dict[str, Any] = {
            "algorithm": config.algorithm,
            "mode": config.mode,
            "properties": list(config.properties),
            "source": {key: self.facts["source"][key] for key in ("name", "demo", "digest")},
            "split_digest": self.facts["split"]["digest"],
            **{key: self.facts[key] for key in ("elements", "labels_digest", "descriptor") if key in self.facts},
        }
        facts["hulls"] = {
            name: {
                "counts": torch.from_numpy(hull.reference.counts),
                "energies": torch.from_numpy(hull.reference.energies),
            }
            for name, hull in self.hulls.items()
        }
        return facts

    def record(self, earlier: TrainingRecord | None = None) -> TrainingRecord:
        """Return what the weights are trained on, with what those that they start from were trained on."""
        dataset, train = self.dataset, self.split.train
        own = TrainingRecord.of(
            [dataset.ids[row] for row in train],
            [dataset.materials.formulas[row] for row in train],
            {name: known[train] for name, known in dataset.known.items()},
        )
        return own.joined(earlier)


def prepare(
    config: RunConfig, console: Console, *, inputs: Inputs = NO_INPUTS, earlier: TrainingRecord | None = None,
    to_train: bool = True,
) -> Prepared:  # fmt: skip
    """Read materials, labels and descriptors of a run, split them, find the hull and mask outliers.

    Nothing that the weights to start from were trained on, `earlier`, is validated on; `to_train` checks that a network
    can be trained on the data.

    Raises:
        CrystrataError: The source is unusable, a task has no label to train on, or a tested material was trained on.
    """
    require_valid_source(config)
    own_structures = config.table is not None
    own_tables = not own_structures and (
        config.mode == OWN_TABLES or inputs.table is not None or any(task.data_files for task in config.tasks)
    )
    with _progress(console) as progress:
        if own_tables:
            materials, labels, descriptors, facts = from_tables(config, console, inputs)
        else:
            materials, labels, descriptors, facts = from_source(config, console, inputs, progress("building graphs"))
        known = {name: one.known_samples for name, one in labels.items()}
        split = _split(config, materials, known, progress("symmetry of the crystals"))
        split = _without_seen(split, materials, known, config, earlier, own=own_tables or own_structures)
        hulls = training_hulls(config, materials, labels, split, progress("convex hull of the training energies"))
    if not own_tables:
        split = keep_rows(split, np.logical_or.reduce(list(known.values())))
    if config.max_samples is not None and config.max_samples < len(materials):
        split = subsample(split, config.max_samples, materials.ids)
    tasks = [
        with_label_widths(task, labels[task.name], split.train) if task.name in labels else task
        for task in config.trained
    ]
    dataset = MaterialDataset(
        materials, tasks, labels, descriptors=descriptors, train=split.train, seed=config.seed,
        redraw=config.redraw_masks,
    )  # fmt: skip
    outliers = _mask_outliers(config, dataset, split, hulls)
    data = loaders(config, dataset, split)
    if to_train:
        data.check()
        for name, parts in data.unlabelled().items():
            console.print(f"{name} has no known label in the {' and '.join(parts)} part", style="yellow")
    facts |= {**_facts(data), "outliers": outliers.table["action"].value_counts().to_dict()}
    return Prepared(data, hulls, outliers, facts)


def loaders(config: RunConfig, dataset: MaterialDataset, split: Split) -> BatchDataModule:
    """Return the loaders over dataset and split that a configuration asks for."""
    return BatchDataModule(
        dataset, split, batch_size=config.batch_size, accumulate=config.accumulate, seed=config.seed,
        workers=config.workers, pin_memory=resolve_device(config.device).type == "cuda",
    )  # fmt: skip


def require_valid_source(config: RunConfig) -> None:
    """Refuse a source, release, split or file that is unknown or contradicts the rest."""
    if config.source == "demo" and config.data_file:
        raise UsageError("--source demo and --data-file contradict each other: give one")
    if not parse_protocol(config.split).reads_file and config.splits_file:
        raise UsageError(f"--splits-file and --split {config.split}, which reads no file, contradict each other")
    get_release(config.release)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Yield what makes the report of one stage of the work: a bar that appears once there is something to show."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def stage(words: str) -> Callable[[int, int], None]:
            def report(done: int, total: int) -> None:
                bar.update(task, description=words, completed=done, total=total, visible=True)

            return report

        yield stage


def _split(
    config: RunConfig, materials: Materials, known: Mapping[str, np.ndarray], progress: Callable[[int, int], None]
) -> Split:
    request = SplitRequest(
        Candidates.of(materials), config.seed if config.split_seed is None else config.split_seed,
        Path(config.data_dir), splits_file=Path(config.splits_file) if config.splits_file else None,
        data_file=named_file(config.release, config.data_file), workers=config.workers, progress=progress,
        stated=materials.stated, known=known, val=config.val_split, test=config.test_split,
    )  # fmt: skip
    return resolve_split(config.split, request)


def _without_seen(
    split: Split, materials: Materials, known: Mapping[str, np.ndarray], config: RunConfig,
    earlier: TrainingRecord | None, *, own: bool,
) -> Split:  # fmt: skip
    """Refuse weights to start from that were trained on what is tested here; validate on nothing that they saw.

    For a source's own properties every tested material counts. For tables of one's own, those count whose label of a
    task that is tested here they learned; other overlap is counted and reported, and refused with `strict_start`.
    """
    if earlier is None:
        return split
    seen = earlier.saw(materials.ids)
    if own and not config.strict_start:
        learned = [there & earlier.learned(name, materials.ids) for name, there in known.items()]
        seen = np.logical_or.reduce(learned) if learned else np.zeros(len(materials), dtype=bool)
    return keep_unseen(split, materials.ids, seen)


def start_overlap(prepared: Prepared, earlier: TrainingRecord | None) -> dict[str, int] | None:
    """Return how many tested materials, and reduced formulas of tested materials, a start was trained on."""
    if earlier is None:
        return None
    materials, test = prepared.dataset.materials, prepared.split.test
    return {
        "tested": len(test),
        "tested_and_trained_on": int(earlier.saw([materials.ids[row] for row in test]).sum()),
        "tested_of_a_formula_trained_on": int(earlier.saw_formulas([materials.formulas[row] for row in test]).sum()),
    }


def training_hulls(
    config: RunConfig, materials: Materials, labels: Mapping[str, Labels], split: Split,
    progress: Callable[[int, int], None],
) -> dict[str, TrainingHull]:  # fmt: skip
    """Return the convex hull of the training energies for each task that is a distance from it.

    Raises:
        UsageError: There is such a task, and the materials are those of tables without energies.
    """
    derived = [task for task in config.tasks if task.derived_from]
    if not derived:
        return {}
    if materials.table is None:
        raise UsageError(f"{derived[0].name} follows from the energies of a source: leave it out of tables of your own")
    energies = materials.table[get_property("formation_energy").columns[0]].to_numpy(dtype=np.float64)
    reference = np.zeros(len(materials), dtype=bool)
    reference[_valid_energies(config, materials, labels, split)] = True
    counts, cache = formula_counts(materials.table["formula"]), Path(config.data_dir) / "hulls"
    return {
        task.name: training_hull(CONVENTIONS[task.name], counts, energies, reference, cache, progress)
        for task in derived
    }


def _valid_energies(config: RunConfig, materials: Materials, labels: Mapping[str, Labels], split: Split) -> np.ndarray:
    """Return the training rows whose formation energy may span the hull: one outlier would bend a whole system."""
    task = next((task for task in config.trained if task.name == "formation_energy"), None)
    if task is None:
        return split.train
    values = {task.name: labels[task.name].numbers}
    check = check_outliers([task], values, split, materials.ids, limit=config.outlier_z, mask=config.outlier_filter)
    return split.train[~check.masked_for(task.name)[split.train]]


def _mask_outliers(
    config: RunConfig, dataset: MaterialDataset, split: Split, hulls: Mapping[str, TrainingHull]
) -> OutlierCheck:
    """Check the labels of all reported and trained tasks; forget the training labels that cannot be right."""
    wanted = {task.name: task for task in (*config.tasks, *dataset.tasks) if task.is_number}
    values = labels_of_tasks(list(wanted.values()), dataset, hulls)
    outliers = check_outliers(
        list(wanted.values()), values, split, dataset.ids, limit=config.outlier_z, mask=config.outlier_filter
    )
    for task in dataset.tasks:
        if task.is_number and outliers.masked_for(task.name).any():
            dataset.hide(task.name, outliers.masked_for(task.name))
    return outliers


def labels_of_tasks(
    tasks: Sequence[Task], dataset: MaterialDataset, hulls: Mapping[str, TrainingHull]
) -> dict[str, np.ndarray]:
    """Return the labels of tasks of one number in physical units, derived ones included, task -> (n,)."""
    values = {name: labels.numbers for name, labels in dataset.labels.items() if labels.width == 1}
    levels = {name: hull.levels for name, hull in hulls.items()}
    table = dataset.materials.table
    own = [task for task in tasks if task.derived_from and task.columns]
    known = {} if table is None else {task.name: column_labels(task, table).numbers for task in own}
    return with_derived(tasks, values, levels, known)


def _facts(data: BatchDataModule) -> dict[str, Any]:
    dataset, split = data.dataset, data.split
    fractions, _ = known_weights([dataset.materials.formulas[row] for row in split.train])
    digest = split.as_dict(dataset.ids)["digest"]
    return {
        "split": {"protocol": split.protocol, "seed": split.seed, "digest": digest, **split.notes},
        "materials": {part: len(split.part(part)) for part in PARTS},
        "labels": data.label_counts(),
        "labels_digest": labels_digest(dataset.labels, dataset.ids),
        "elements": [SYMBOLS[column] for column in np.flatnonzero(fractions.any(axis=0))],
    }
