"""From structure files to a table: one row per input, in input order, errors as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from crystrata.compositions.fractions import atomic_fractions
from crystrata.elements import SYMBOLS
from crystrata.errors import UsageError
from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.build import build_graphs
from crystrata.hull.derived import with_derived
from crystrata.prediction.domain import cautions
from crystrata.prediction.inference import describe_graphs
from crystrata.prediction.intervals import predicted_metals
from crystrata.prediction.models import TrainedModel
from crystrata.properties import Property, get_property, records
from crystrata.structures.crystal import Crystal, Rejected
from crystrata.structures.readers import read_crystals

DOMAIN_DISTANCE = "domain distance"
"""Title of the distance from the training crystals; within 1 lie 99 % of the validation crystals."""

GAPS = ("band_gap", "band_gap_mbj")
"""Properties that should agree on what is a metal."""

INTERVAL = 90.0
"""Usual level of the intervals [%]."""

_CHUNK = 2000  # crystals whose graphs are in memory at once
_CHUNK_ATOMS = 100_000  # their atoms, where cells are large; a graph takes about a kilobyte per atom


def predict_files(
    model: TrainedModel,
    paths: Iterable[Path | str],
    *,
    interval: float = INTERVAL,
    majority_species: bool = False,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Predict the properties of structure files.

    Args:
        model: The trained model; loaded once, used for all.
        paths: Files, folders or archives.
        interval: Share of labels that the intervals are to cover [%]; 0 makes none.
        majority_species: Read a disordered site as its majority species, with a warning in the row; else refuse it.
        workers: Processes that read the files; 0 reads them in this one.
        progress: Called with the number of inputs done.

    Returns:
        Columns `id`, `formula`, one per property with its unit in the title, each followed by the ends of its interval
        where the model knows them, what the heads say besides (principal values, metal probability), `domain distance`
        of a calibrated model, `warning`, `error_code` and `error`: the same for every input of a model. One row per
        input in input order. A broken input has NaN values and a reason, and does not disturb the others.

    Raises:
        UsageError: The interval is no percentage below 100.
    """
    if not 0 <= interval < 100:
        raise UsageError(f"--interval is a percentage from 0 to below 100, not {interval:g}")
    tables, done = [], 0
    for chunk in _chunks(read_crystals(paths, majority_species=majority_species, workers=workers)):
        tables.append(predict_crystals(model, chunk, interval))
        done += len(chunk)
        if progress:
            progress(done)
    return pd.concat(tables or [predict_crystals(model, [], interval)], ignore_index=True)


def _chunks(items: Iterable[Crystal | Rejected]) -> Iterator[list[Crystal | Rejected]]:
    """Yield the items in lists that are bounded in crystals and in atoms; a crystal above the bound comes alone."""
    chunk, atoms = list[Crystal | Rejected](), 0
    for item in items:
        size = len(item) if isinstance(item, Crystal) else 0
        if chunk and (len(chunk) == _CHUNK or atoms + size > _CHUNK_ATOMS):
            yield chunk
            chunk, atoms = [], 0
        chunk.append(item)
        atoms += size
    if chunk:
        yield chunk


def predict_crystals(model: TrainedModel, items: list[Crystal | Rejected], interval: float = INTERVAL) -> pd.DataFrame:
    """Predict the properties of crystals; see `predict_files` for the columns."""
    crystals = [(row, item) for row, item in enumerate(items) if isinstance(item, Crystal)]
    graphs, rejected = build_graphs(crystals, model.network.graph)
    failed = {row: item for row, item in enumerate(items) if isinstance(item, Rejected)} | dict(rejected)
    columns = {title: np.full(len(items), np.nan) for title in _titles(model, interval)}
    warnings = [""] * len(items)
    if len(graphs):
        rows, built = np.asarray(graphs.source_row), [crystal for row, crystal in crystals if row not in failed]
        found, said = _predict_graphs(model, graphs, built, interval)
        for title, column in found.items():
            columns[title][rows] = column
        for row, text in zip(rows, said, strict=True):
            warnings[row] = text
    return pd.DataFrame(
        {
            "id": [_as_text(item.id) for item in items],
            "formula": [item.formula if isinstance(item, Crystal) else "" for item in items],
            **columns,
            "warning": warnings,
            "error_code": [failed[row].code if row in failed else "" for row in range(len(items))],
            "error": [_as_text(failed[row].reason) if row in failed else "" for row in range(len(items))],
        }
    )


def _titles(model: TrainedModel, interval: float) -> Iterator[str]:
    """Yield the titles of the columns of numbers, in order."""
    bounded = model.calibration.intervals.properties if model.calibration and interval else ()
    for record in records(model.properties):
        yield record.column
        if record.name in bounded:
            yield from interval_titles(record)
    yield from model.network.detail_titles
    if model.calibration:
        yield DOMAIN_DISTANCE


def _predict_graphs(
    model: TrainedModel, graphs: GraphArrays, crystals: list[Crystal], interval: float
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the columns of numbers, title -> (n,), and the warnings of n crystals that have graphs."""
    predicted, details, latents = describe_graphs(model.network, graphs)
    levels = model.levels([crystal.formula for crystal in crystals])
    all_values = with_derived(model.properties, model.network.properties, predicted, levels)
    values = dict(zip(model.properties, all_values.T, strict=True))
    columns = {get_property(name).column: column for name, column in values.items()} | details
    metal, distance, expansion = predicted_metals(values), np.zeros(len(crystals)), np.ones(len(crystals))
    if model.calibration:
        intervals, domain = model.calibration.intervals, model.calibration.domain
        columns[DOMAIN_DISTANCE] = distance = domain.distance(latents)
        fractions = atomic_fractions(graphs.numbers, graphs.atom_offsets)
        expansion = domain.expansion(fractions, np.array([crystal.volume_per_atom for crystal in crystals]))
        bounds = intervals.bounds(values, latents, distance, metal, interval / 100) if interval else {}
        for name, ends in bounds.items():
            columns |= dict(zip(interval_titles(get_property(name)), ends, strict=True))
    without_dielectric = metal & ("dielectric" in values)
    gaps = np.stack([values[name] for name in GAPS], 1) if {*GAPS} <= {*values} else np.zeros((len(crystals), 2))
    seen = model.facts.get("elements", SYMBOLS)
    warnings = [
        "; ".join(cautions(crystal, seen, distance=far, expansion=grown, metal_with_dielectric=useless, gaps=both))
        for crystal, far, grown, useless, both in zip(
            crystals, distance, expansion, without_dielectric, gaps.tolist(), strict=True
        )
    ]
    return columns, warnings


def interval_titles(record: Property) -> tuple[str, str]:
    """Return the titles of the ends of a property's interval: `band_gap low [eV]`, `band_gap high [eV]`."""
    return record.titled(f"{record.name} low"), record.titled(f"{record.name} high")


def _as_text(name: str) -> str:
    """Return what can be printed and written as UTF-8: a file name may hold bytes that are no text."""
    return name.encode("utf-8", "replace").decode()
