"""From structures or formulas to a table: one row per input, in input order, errors as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crystrata.compositions.keys import atomic_fractions, group_key, known_weights
from crystrata.datasets.dataset import MaterialDataset
from crystrata.datasets.materials import Materials, Structures
from crystrata.datasets.sampling import Step
from crystrata.elements import SYMBOLS
from crystrata.errors import UsageError
from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.neighbours import build_graphs
from crystrata.hull.conventions import with_derived
from crystrata.networks.ensemble import Ensemble
from crystrata.prediction.domain import cautions
from crystrata.prediction.inference import evaluate_rows, evaluation_form
from crystrata.prediction.intervals import predicted_metals
from crystrata.prediction.trained_model import TrainedModel
from crystrata.structures.crystal import Crystal, Rejected
from crystrata.structures.readers import read_crystals
from crystrata.structures.readers.json_and_db import crystal_of_form
from crystrata.structures.readers.structure_file import attempt
from crystrata.tasks import Task

DOMAIN_DISTANCE = "domain distance"
"""Title of the distance from the training materials; within 1 lie 99 % of the validation materials."""

GAPS = ("band_gap", "band_gap_mbj")
"""Properties that should agree on what is a metal."""

INTERVAL = 90.0
"""Usual level of the intervals [%]."""

_CHUNK = 2000  # materials whose graphs are in memory at once
_CHUNK_ATOMS = 100_000  # their atoms, where cells are large; a graph takes about a kilobyte per atom
_FORMULA_ALONE = "no structure was given: predicted from the formula alone"


@dataclass(frozen=True)
class Formula:
    """A composition to predict, without a crystal; `text` is as it was written."""

    text: str

    @property
    def id(self) -> str:
        """What names it in the table."""
        return self.text

    @property
    def formula(self) -> str:
        """Reduced formula."""
        return group_key(self.text)

    def __len__(self) -> int:
        return 0


Material = Crystal | Formula | Rejected


def materials_of(items: Any, model: TrainedModel) -> Iterator[Material]:
    """Yield the materials that items are, in order; one that cannot be read is a `Rejected` with its reason.

    An item is a path of structures, a `Structure` of pymatgen, an `Atoms` of ASE, a `Crystal` or a formula; text that
    names no file is a formula where the model reads compositions. Another type is a UsageError.
    """
    several = isinstance(items, Iterable) and not (isinstance(items, str | Path) or _is_structure(items))
    for place, item in enumerate(items if several else [items]):
        if isinstance(item, Crystal | Formula | Rejected):
            yield item
        elif _is_structure(item):
            yield _of_structure(f"item {place}", item)
        elif isinstance(item, str) and model.network.reads_compositions and not Path(item).exists():
            yield Formula(item)
        elif isinstance(item, str | Path):
            yield from read_crystals([item])
        else:
            raise UsageError(
                f"item {place} is a {type(item).__name__}: give paths of structure files, structures of pymatgen or "
                "ASE, crystals of crystrata, or formulas"
            )


def _is_structure(item: Any) -> bool:
    return isinstance(item, Crystal) or any(hasattr(item, name) for name in ("as_dict", "todict"))


def _of_structure(id: str, item: Any) -> Crystal | Rejected:
    form = item.todict() if hasattr(item, "todict") else item.as_dict()
    return attempt(id, partial(crystal_of_form, id, form, majority=False))


def predict_files(
    model: TrainedModel, paths: Iterable[Path | str], *, interval: float = INTERVAL, majority_species: bool = False,
    workers: int = 0, progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Predict the properties of structure files, folders or archives.

    Args:
        model: The trained model; loaded once, used for all.
        paths: Files, folders or archives.
        interval: Share of labels that the intervals are to cover [%]; 0 makes none.
        majority_species: Read a disordered site as its majority species, with a warning in the row; else refuse it.
        workers: Processes that read the files; 0 reads them in this one.
        progress: Called with the number of inputs done.

    Returns:
        Columns `id`, `formula`, one per task with its unit in the title, each followed by the ends of its interval
        where the model knows them, what the heads say besides (principal values, metal probability), `domain distance`
        of a calibrated model, `warning`, `error_code` and `error`: the same for every input of a model. One row per
        input in input order. A broken input has NaN values and a reason, and does not disturb the others.
    """
    if not model.network.reads_crystals:
        raise UsageError(
            f"{model.path} reads formulas and no structures: give --formula, or name a model of crystals with --model"
        )
    found = read_crystals(paths, majority_species=majority_species, workers=workers)
    return predict(model, found, interval=interval, progress=progress)


def predict(
    model: TrainedModel, items: Iterable[Material], *, interval: float = INTERVAL,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Predict crystals and formulas, one after another in chunks; see `predict_files`."""
    if not 0 <= interval < 100:
        raise UsageError(f"--interval is a percentage from 0 to below 100, not {interval:g}")
    tables, done = [], 0
    for chunk in _chunks(items):
        tables.append(predict_materials(model, chunk, interval))
        done += len(chunk)
        if progress:
            progress(done)
    return pd.concat(tables or [predict_materials(model, [], interval)], ignore_index=True)


def embed(
    model: TrainedModel, items: Iterable[Material], *, progress: Callable[[int], None] | None = None
) -> pd.DataFrame:
    """Return the latents of crystals and formulas, by which a model knows them: numbers for regressions of one's own.

    Of several networks, the first one tells them: its encoder is what `--start` starts from.

    Returns:
        One row per item: `id`, `formula`, `0` to `d - 1` (float32, NaN where it failed), `error_code`, `error`.
    """
    network = model.network.members[0] if isinstance(model.network, Ensemble) else model.network
    parts, done = [], 0
    for chunk in _chunks(items):
        graphs, failed = _graphs(model, chunk)
        rows = np.array([row for row in range(len(chunk)) if row not in failed], dtype=np.int64)
        latents = np.full((len(chunk), network.latent_width), np.nan, dtype=np.float32)
        if len(rows):
            chosen = [item for row in rows if not isinstance(item := chunk[row], Rejected)]
            latents[rows] = evaluate_rows(network, _dataset(model, graphs, chosen, rows)).latents
        about = {
            "id": [_as_text(item.id) for item in chunk],
            "formula": ["" if isinstance(item, Rejected) else item.formula for item in chunk],
        }
        errors = {
            "error_code": [failed[row].code if row in failed else "" for row in range(len(chunk))],
            "error": [_as_text(failed[row].reason) if row in failed else "" for row in range(len(chunk))],
        }
        numbers = pd.DataFrame(latents, columns=list(map(str, range(latents.shape[1]))))
        parts.append(pd.concat([pd.DataFrame(about), numbers, pd.DataFrame(errors)], axis=1))
        done += len(chunk)
        if progress:
            progress(done)
    if not parts:
        raise UsageError("nothing to embed: give at least one structure or formula")
    return pd.concat(parts, ignore_index=True)


def _chunks(items: Iterable[Material]) -> Iterator[list[Material]]:
    """Yield the items in lists that are bounded in materials and in atoms; a crystal above the bound comes alone."""
    chunk, atoms = list[Material](), 0
    for item in items:
        size = 0 if isinstance(item, Rejected) else len(item)
        if chunk and (len(chunk) == _CHUNK or atoms + size > _CHUNK_ATOMS):
            yield chunk
            chunk, atoms = [], 0
        chunk.append(item)
        atoms += size
    if chunk:
        yield chunk


def predict_materials(model: TrainedModel, items: Sequence[Material], interval: float = INTERVAL) -> pd.DataFrame:
    """Predict the properties of materials; see `predict_files` for the columns."""
    graphs, failed = _graphs(model, items)
    rows = [row for row in range(len(items)) if row not in failed]
    columns: dict[str, Any] = {title: np.full(len(items), np.nan) for title in _titles(model, interval)}
    columns |= {task.name: np.full(len(items), "", dtype=object) for task in model.tasks if task.labels == "class"}
    warnings = [""] * len(items)
    if rows:
        chosen = [item for row in rows if not isinstance(item := items[row], Rejected)]
        found, said = _predict(model, graphs, chosen, np.array(rows), interval)
        for title, column in found.items():
            columns[title][rows] = column
        for row, text in zip(rows, said, strict=True):
            warnings[row] = text
    table = {
        "id": [_as_text(item.id) for item in items],
        "formula": ["" if isinstance(item, Rejected) else item.formula for item in items],
        **columns,
        "warning": warnings,
        "error_code": [failed[row].code if row in failed else "" for row in range(len(items))],
        "error": [_as_text(failed[row].reason) if row in failed else "" for row in range(len(items))],
    }
    return pd.DataFrame(table)


def _graphs(model: TrainedModel, items: Sequence[Material]) -> tuple[GraphArrays | None, dict[int, Rejected]]:
    """Return the graphs of the crystals that the model reads, and the items that it cannot, by their place."""
    failed = {row: item for row, item in enumerate(items) if isinstance(item, Rejected)}
    graphs = None
    if model.network.reads_crystals:
        crystals = [(row, item) for row, item in enumerate(items) if isinstance(item, Crystal)]
        graphs, rejected = build_graphs(crystals, model.network.graph)
        failed |= dict(rejected)
    if not model.network.reads_compositions:
        reason = "this model reads structures, and a formula was given"
        failed |= {
            row: Rejected(item.id, "no_structure", reason)
            for row, item in enumerate(items)
            if isinstance(item, Formula)
        }
        return graphs, failed
    left = [row for row in range(len(items)) if row not in failed]
    _, valid = known_weights([item.formula for row in left if not isinstance(item := items[row], Rejected)])
    for row, known in zip(left, valid, strict=True):
        if not known:
            failed[row] = Rejected(items[row].id, "unknown_species", "it is not a formula of known elements")
    return graphs, failed


def _titles(model: TrainedModel, interval: float) -> Iterator[str]:
    """Yield the titles of the columns of numbers, in order."""
    bounded = model.calibration.intervals.properties if model.calibration and interval else ()
    for task in model.tasks:
        if task.is_number:
            yield task.column
        elif task.labels == "vector":
            yield from _component_titles(task)
        elif task.labels == "class":
            yield from (f"{task.name} probability of {name}" for name in task.classes)
        if task.name in bounded:
            yield from interval_titles(task)
    yield from model.network.detail_titles
    if model.calibration:
        yield DOMAIN_DISTANCE


def _component_titles(task: Task) -> list[str]:
    return [task.titled(f"{task.name}[{place}]") for place in range(int(task.head.get("components", 1)))]


def _predict(
    model: TrainedModel, graphs: GraphArrays | None, items: Sequence[Crystal | Formula], rows: np.ndarray,
    interval: float,
) -> tuple[dict[str, np.ndarray], list[str]]:  # fmt: skip
    """Return the columns, title -> (n,), and the warnings of n materials that can be predicted.

    `rows` are their places among all inputs, (n,), as is `source_row` of the graphs; `interval` is a level [%].
    """
    formulas = [item.formula for item in items]
    dataset = _dataset(model, graphs, items, rows)
    values_of_heads, details, latents = evaluate_rows(model.network, dataset)
    values = with_derived(model.tasks, values_of_heads, model.levels(formulas))
    titled = {task.name: task for task in model.tasks}
    columns = {titled[name].column: column for name, column in values.items()} | details
    columns |= _other_columns(model, dataset)
    metal = predicted_metals(values) if values else np.zeros(len(items), dtype=bool)
    distance, expansion = np.zeros(len(items)), np.ones(len(items))
    if model.calibration:
        intervals, domain = model.calibration.intervals, model.calibration.domain
        columns[DOMAIN_DISTANCE] = distance = domain.distance(latents)
        if graphs is not None and len(graphs) == len(items):
            fractions = atomic_fractions(graphs.numbers, graphs.atom_offsets)
            volumes = np.array([item.volume_per_atom for item in items if isinstance(item, Crystal)])
            expansion = domain.expansion(fractions, volumes)
        if interval:
            bounds = intervals.bounds(model.tasks, values, latents, distance, metal, interval / 100)
            for name, ends in bounds.items():
                columns |= dict(zip(interval_titles(titled[name]), ends, strict=True))
    return columns, _warnings(model, items, values, metal, distance, expansion)


def _warnings(
    model: TrainedModel, items: Sequence[Crystal | Formula], values: Mapping[str, np.ndarray], metal: np.ndarray,
    distance: np.ndarray, expansion: np.ndarray,
) -> list[str]:  # fmt: skip
    """Return what to be careful about, a text for each material."""
    without_dielectric = metal & ("dielectric" in values)
    gaps = np.stack([values[name] for name in GAPS], 1) if {*GAPS} <= {*values} else np.zeros((len(items), 2))
    seen, warnings = model.facts.get("elements", SYMBOLS), []
    for place, item in enumerate(items):
        crystal = item if isinstance(item, Crystal) else None
        weights = known_weights([item.formula])[0][0] if crystal is None else None
        numbers = np.flatnonzero(weights) + 1 if weights is not None else crystal.numbers  # type: ignore[union-attr]
        found = cautions(
            numbers, crystal, seen, distance=distance[place], expansion=expansion[place],
            metal_with_dielectric=bool(without_dielectric[place]), gaps=tuple(gaps[place].tolist()),
        )  # fmt: skip
        alone = [_FORMULA_ALONE] if crystal is None and model.network.reads_crystals else []
        warnings.append("; ".join([*alone, *found]))
    return warnings


def _dataset(
    model: TrainedModel, graphs: GraphArrays | None, items: Sequence[Crystal | Formula], rows: np.ndarray
) -> MaterialDataset:
    """Return materials without labels as the network reads them."""
    formulas = tuple(item.formula for item in items)
    structures = None
    if graphs is not None:
        crystal_of = np.full(len(rows), -1)
        crystal_of[np.searchsorted(rows, np.asarray(graphs.source_row))] = np.arange(len(graphs))
        structures = Structures(graphs, crystal_of)
    materials = Materials(tuple(map(str, rows)), formulas, structures=structures)
    return MaterialDataset(materials, (), {}, descriptors=model.describe(formulas))


@torch.inference_mode()
def _other_columns(model: TrainedModel, dataset: MaterialDataset) -> dict[str, np.ndarray]:
    """Return the columns of vectors and classes: components, decided class and probabilities."""
    wanted = [task for task in model.tasks if task.labels in ("vector", "class")]
    network = model.network
    if not wanted or isinstance(network, Ensemble):
        return {}
    columns: dict[str, list[np.ndarray]] = {}
    for batch in dataset.batches(Step(np.arange(len(dataset)), _CHUNK), evaluation_form(network)):
        latent = network.encode(batch.to(network.device))
        for task in wanted:
            head = network.head(task.name)
            output = head(latent)
            if task.labels == "vector":
                found = head.predict(output, latent).cpu().numpy()
                named = dict(zip(_component_titles(task), found.T, strict=True))
            else:
                shares = output.softmax(1).cpu().numpy()
                named = {f"{task.name} probability of {name}": shares[:, k] for k, name in enumerate(task.classes)}
                named[task.name] = np.array(task.classes, dtype=object)[shares.argmax(1)]
            for title, column in named.items():
                columns.setdefault(title, []).append(column)
    return {title: np.concatenate(parts) for title, parts in columns.items()}


def interval_titles(task: Task) -> tuple[str, str]:
    """Return the titles of the ends of a task's interval: `band_gap low [eV]`, `band_gap high [eV]`."""
    return task.titled(f"{task.name} low"), task.titled(f"{task.name} high")


def _as_text(name: str) -> str:
    """Return what can be printed and written as UTF-8: a file name may hold bytes that are no text."""
    return name.encode("utf-8", "replace").decode()
