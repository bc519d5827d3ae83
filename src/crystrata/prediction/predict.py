"""From structure files to a table: one row per input, in input order, errors as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from crystrata.crystals.crystal import MAX_VOLUME_PER_ATOM, Crystal, Rejected
from crystrata.crystals.readers import read_crystals
from crystrata.elements import SYMBOLS
from crystrata.graphs.build import build_graphs
from crystrata.prediction.derived import with_derived
from crystrata.prediction.inference import describe_graphs
from crystrata.prediction.models import TrainedModel
from crystrata.properties import records

_CHUNK = 2000  # crystals whose graphs are in memory at once
_CHUNK_ATOMS = 100_000  # their atoms, where cells are large; a graph takes about a kilobyte per atom


def predict_files(
    model: TrainedModel,
    paths: Iterable[Path | str],
    *,
    majority_species: bool = False,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Predict the properties of structure files.

    Args:
        model: The trained model; loaded once, used for all.
        paths: Files, folders or archives.
        majority_species: Read a disordered site as its majority species, with a warning in the row; else refuse it.
        workers: Processes that read the files; 0 reads them in this one.
        progress: Called with the number of inputs done.

    Returns:
        Columns `id`, `formula`, one per property with its unit in the title, what the heads say besides (principal
        values, metal probability), `warning`, `error_code` and `error`: the same for every input of a model. One row
        per input in input order. A broken input has NaN values and a reason, and does not disturb the others.
    """
    tables, done = [], 0
    for chunk in _chunks(read_crystals(paths, majority_species=majority_species, workers=workers)):
        tables.append(predict_crystals(model, chunk))
        done += len(chunk)
        if progress:
            progress(done)
    return pd.concat(tables or [predict_crystals(model, [])], ignore_index=True)


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


def predict_crystals(model: TrainedModel, items: list[Crystal | Rejected]) -> pd.DataFrame:
    """Predict the properties of crystals; see `predict_files` for the columns."""
    properties = records(model.properties)
    crystals = [(row, item) for row, item in enumerate(items) if isinstance(item, Crystal)]
    graphs, rejected = build_graphs(crystals, model.network.graph)
    values = np.full((len(items), len(properties)), np.nan)
    further = {title: np.full(len(items), np.nan) for title in model.network.detail_titles}
    if len(graphs):
        without = dict(rejected)
        built = [crystal for row, crystal in crystals if row not in without]
        rows = np.asarray(graphs.source_row)
        predicted, details = describe_graphs(model.network, graphs)
        levels = model.levels([crystal.formula for crystal in built])
        values[rows] = with_derived(model.properties, model.network.properties, predicted, levels)
        for title, column in details.items():
            further[title][rows] = column
    failed = {row: item for row, item in enumerate(items) if isinstance(item, Rejected)} | dict(rejected)
    seen = set(model.facts.get("elements", SYMBOLS))
    table = pd.DataFrame(
        {
            "id": [_as_text(item.id) for item in items],
            "formula": [item.formula if isinstance(item, Crystal) else "" for item in items],
        }
    )
    for position, record in enumerate(properties):
        table[record.column] = values[:, position]
    for title, column in further.items():
        table[title] = column
    table["warning"] = [
        "; ".join(_warnings(item, seen)) if isinstance(item, Crystal) and row not in failed else ""
        for row, item in enumerate(items)
    ]
    table["error_code"] = [failed[row].code if row in failed else "" for row in range(len(items))]
    table["error"] = [_as_text(failed[row].reason) if row in failed else "" for row in range(len(items))]
    return table


def _as_text(name: str) -> str:
    """Return what can be printed and written as UTF-8: a file name may hold bytes that are no text."""
    return name.encode("utf-8", "replace").decode()


def _warnings(crystal: Crystal, seen: set[str]) -> list[str]:
    found = [crystal.note] if crystal.note else []
    unseen = sorted({SYMBOLS[number - 1] for number in crystal.numbers} - seen)
    if unseen:
        found.append(f"elements never trained on: {', '.join(unseen)}")
    if crystal.volume_per_atom > MAX_VOLUME_PER_ATOM:
        found.append(f"{crystal.volume_per_atom:.0f} A^3 per atom: atoms stand apart")
    return found
