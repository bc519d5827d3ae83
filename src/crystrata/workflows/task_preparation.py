"""Before training on tasks: labels, descriptors, split, crystals and the network that fits them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from crystrata.compositions.descriptors import CachedDescriptors, DescriptorSource, describe_valid, descriptor_source
from crystrata.compositions.element_features import load_element_features
from crystrata.compositions.keys import composition_key, group_key, known_weights
from crystrata.datasets.composition_dataset import CompositionDataset
from crystrata.datasets.data_module import BatchDataModule
from crystrata.datasets.splits import PARTS, Split
from crystrata.datasets.tasks.kept_splits import KeptSplit, read_split
from crystrata.datasets.tasks.selection import listed_keys
from crystrata.datasets.tasks.specs import TaskSpec, parse_tasks
from crystrata.datasets.tasks.tables import TaskLabels, load_labels
from crystrata.datasets.tasks.training_statistics import with_label_widths
from crystrata.datasets.tasks.universe import Universe, build_universe, counts_per_part, split_universe
from crystrata.elements import SYMBOLS
from crystrata.errors import TrainingError, UsageError
from crystrata.networks.task_config import TaskNetworkConfig
from crystrata.networks.task_network import TaskNetwork
from crystrata.runs.task_config import TaskRunConfig
from crystrata.workflows.loaders import loaders
from crystrata.workflows.task_crystals import DescribedCrystals, open_crystals

AUTOENCODER = "autoencoder"

Tables: TypeAlias = pd.DataFrame | Mapping[str, pd.DataFrame] | None


@dataclass(frozen=True)
class PreparedTasks:
    """The data of a run over tasks, ready to train on.

    Attributes:
        specs: The tasks, with what their heads must know of the labels.
        data: Loaders over dataset and split, checked.
        facts: What the manifest records about the data, and the weights file carries along.
    """

    specs: tuple[TaskSpec, ...]
    data: BatchDataModule[CompositionDataset]
    facts: dict[str, Any]


def prepare_tasks(
    config: TaskRunConfig,
    console: Console,
    *,
    table: Tables = None,
    source: DescriptorSource | None = None,
    to_train: bool = True,
) -> PreparedTasks:
    """Read labels and descriptors of a run, split the compositions, join crystals where a network reads them.

    Args:
        config: The run.
        console: Where downloads are told of.
        table: Labels in memory, in place of files: one table for all tasks, or task -> table.
        source: Descriptors, in place of those that the configuration names.
        to_train: Whether a network is to be trained on them.

    Raises:
        CrystrataError: Labels or descriptors cannot be used, or a task has no label to train on.
    """
    specs = parse_tasks(config.tasks)
    if config.autoencoder and all(spec.kind != "autoencoder" for spec in specs):
        specs = (*specs, TaskSpec(AUTOENCODER, "autoencoder"))
    labels = load_labels(specs, table=table, key_of=composition_key, trust_pickle=config.trust_pickle)
    kept = read_split(Path(config.splits_file)) if config.splits_file else None
    universe = build_universe(labels, [*listed_keys(specs, composition_key), *(kept.part_of if kept else ())])
    crystals = open_crystals(config, console) if config.graph_encoder else None
    formula_of = group_key if crystals is None else crystals.formula
    source = source or descriptor_source(**config.descriptor)
    source = CachedDescriptors(source if crystals is None else DescribedCrystals(source, crystals))
    descriptors, places = describe_valid(source, universe.keys)
    universe = universe.keep(np.isin(np.arange(len(universe)), places))
    split = _split(config, universe, kept, formula_of)
    counts_per_part(universe, split)
    inside = [universe.keys[row] for row in split.train]
    specs = tuple(with_label_widths(spec, labels[spec.name], inside) if spec.name in labels else spec for spec in specs)
    dataset = CompositionDataset(
        universe,
        descriptors,
        specs,
        labels,
        split.train,
        seed=config.seed,
        redraw=config.redraw_masks,
        structures=None if crystals is None else crystals.structures(universe.keys),
    )
    data = loaders(config, dataset, split, form=None)
    if to_train:
        _check(data)
    return PreparedTasks(specs, data, _facts(config, source, data, labels, formula_of))


def _split(
    config: TaskRunConfig, universe: Universe, kept: KeptSplit | None, formula_of: Callable[[str], str]
) -> Split:
    if kept and not config.test_all:
        return kept.over(universe)
    return split_universe(
        universe,
        seed=config.seed if config.split_seed is None else config.split_seed,
        val=config.val_split,
        test=config.test_split,
        test_all=config.test_all,
        group_of=formula_of,
    )


def build_network(config: TaskRunConfig, prepared: PreparedTasks) -> TaskNetwork:
    """Return the network of a run, scaled on the training rows, and tell the loaders what it reads.

    Raises:
        UsageError: A setting is unknown or does not fit.
    """
    dataset, split = prepared.data.dataset, prepared.data.split
    network = TaskNetwork(
        TaskNetworkConfig(
            config.encoder,
            _with_input_width(config, dataset.descriptors.shape[1]),
            prepared.specs,
            latent_stage=config.latent_stage,
            deposit_width=config.deposit_width,
            graph_encoder=config.graph_encoder,
            graph_settings=dict(config.graph_settings),
            graph=config.graph,
            modality_dropout=config.modality_dropout,
            pretrain=tuple(config.pretrain),
        )
    )
    network.fit_scaling(torch.from_numpy(dataset.descriptors[split.train]), dataset.training_labels())
    prepared.data.form = network.training_form
    return network


def _with_input_width(config: TaskRunConfig, width: int) -> dict[str, Any]:
    """Return the settings of the encoder with the width of the descriptor where None, or nothing, stands for it."""
    settings = dict(config.encoder_settings)
    if "hidden_dims" in settings:
        if not isinstance(settings["hidden_dims"], list | tuple) or not settings["hidden_dims"]:
            raise UsageError(f"hidden_dims of the encoder must be a list of widths, not {settings['hidden_dims']!r}")
        first, *rest = settings["hidden_dims"]
        given, settings["hidden_dims"] = first, [width, *rest]
    else:
        given = settings.get("input_dim")
        settings["input_dim"] = width
    if given not in (None, width):
        raise UsageError(f"the encoder is set to read {given} numbers, but a descriptor has {width}")
    return settings


def _check(data: BatchDataModule[CompositionDataset]) -> None:
    """Refuse a run without anything to train on or to select by.

    Raises:
        TrainingError: The training or validation part is empty, or a task has no training label.
    """
    for part in ("train", "val"):
        if not len(data.split.part(part)):
            raise TrainingError(f"the {part} part is empty: use more compositions or another val_split")
    counts = data.label_counts()
    for name, parts in counts.items():
        if not parts["train"]:
            raise TrainingError(f"task {name!r} has no label in the training part: leave it out or give more labels")
    if counts and not any(parts["val"] for parts in counts.values()):
        raise TrainingError("no task has a label in the validation part: use another val_split or seed")


def _facts(
    config: TaskRunConfig,
    source: DescriptorSource,
    data: BatchDataModule[CompositionDataset],
    labels: Mapping[str, TaskLabels],
    formula_of: Callable[[str], str],
) -> dict[str, Any]:
    dataset, split = data.dataset, data.split
    fractions, _ = known_weights([formula_of(dataset.ids[row]) for row in split.train])
    elements = [SYMBOLS[column] for column in np.flatnonzero(fractions.any(axis=0))]
    digest = labels_digest(labels)
    return {
        "algorithm": config.algorithm,
        "mode": config.mode,
        "properties": [spec.name for spec in dataset.specs],
        "tasks": [spec.as_dict() for spec in dataset.specs],
        "elements": elements,
        "source": {"name": "task tables", "demo": False, "digest": digest},
        "descriptor": {**config.descriptor, "width": len(source.names), "digest": source.digest},
        "element_features": load_element_features().digest,
        "split": _split_facts(split, dataset),
        "compositions": {part: len(split.part(part)) for part in PARTS},
        "labels": data.label_counts(),
        "labels_digest": digest,
    }


def _split_facts(split: Split, dataset: CompositionDataset) -> dict[str, Any]:
    digest = split.as_dict(list(dataset.ids))["digest"]
    return {"protocol": split.protocol, "seed": split.seed, "digest": digest, **split.notes}


def labels_digest(labels: Mapping[str, TaskLabels]) -> str:
    """Return a SHA-256 over the compositions, values and coordinates of all tasks."""
    digest = hashlib.sha256()
    for name in sorted(labels):
        task = labels[name]
        digest.update("\n".join([name, *task.keys]).encode())
        for part in (task.values, task.offsets, task.known, task.t):
            if part is not None:
                digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
