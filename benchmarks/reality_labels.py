"""The DFT labels of the textbook crystals of reality.py, and whether a model was trained on them. n crystals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from crystrata.datasets.splits import Candidates, Split, SplitRequest, resolve_split
from crystrata.errors import CrystrataError
from crystrata.jarvis_properties import get_property
from crystrata.prediction.trained_model import TrainedModel
from crystrata.sources.jarvis import open_data_file
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal

LIKELY_SPLITS = ("union", "union-strict", "random", "formation-energy", "by-chemical-system")
"""Protocols that are tried, with the default seed, until the digest of the split is that of the model."""

_SEED = 42
_VOLUME = 1.1  # a DFT volume is within this ratio of the measured one; other phases of a space group are not


@dataclass(frozen=True)
class DFTLabels:
    """Labels of the DFT twins of some crystals: same formula and space group, volume per atom within 10 %.

    Attributes:
        ids: Id of the twin with the fewest atoms in its cell, among equals the one with the most labels, then the
            nearest in volume; "-" where there is none, (n,).
        values: Its labels, one column per property, (n, P).
        parts: `trained` where any twin was, `validation`, `left out`, or `-` where it is not known, (n,).
        protocol: Split of the model, "" where it is not known.
    """

    ids: list[str]
    values: pd.DataFrame
    parts: list[str]
    protocol: str = ""


def no_labels(count: int, properties: Sequence[str]) -> DFTLabels:
    """Return what is known without a data file: nothing."""
    values = pd.DataFrame(np.full((count, len(properties)), np.nan), columns=list(properties))
    return DFTLabels(["-"] * count, values, ["-"] * count)


def find_labels(
    crystals: Sequence[Crystal],
    spacegroups: Sequence[int],
    properties: Sequence[str],
    model: TrainedModel,
    file: Path,
    data_dir: Path,
) -> DFTLabels:
    """Return the labels of crystals in a JARVIS file.

    Args:
        crystals: Crystals at their measured volume, (n,).
        spacegroups: Their space group numbers.
        properties: Properties whose labels are wanted.
        model: The model that may have been trained on them.
        file: JARVIS file; published splits are looked for beside it.
        data_dir: Folder of caches and downloads.

    Raises:
        DataError: The file is missing or damaged.
    """
    table = open_data_file(file, cache_dir=data_dir / "jarvis")
    candidates = _candidates(table)
    labels = pd.DataFrame(
        {name: table.labels[list(get_property(name).columns)].mean(axis=1, skipna=False) for name in properties}
    )
    same_data = model.facts["source"]["digest"] == table.digest
    split = _split_of(model, candidates, file, data_dir) if same_data else None
    rows_of = pd.Series(range(len(candidates))).groupby([candidates.formulas, candidates.spacegroups]).groups
    twins = [
        _twins(np.array(rows_of.get((crystal.formula, group), ()), dtype=np.int64), candidates, crystal)
        for crystal, group in zip(crystals, spacegroups, strict=True)
    ]
    missing = labels.isna().sum(axis=1).to_numpy()
    order = [rows[np.lexsort((missing[rows], candidates.atom_counts[rows]))] for rows in twins]
    best = [int(rows[0]) if len(rows) else None for rows in order]
    values = [np.full(len(properties), np.nan) if row is None else labels.iloc[row].to_numpy() for row in best]
    return DFTLabels(
        ["-" if row is None else candidates.ids[row] for row in best],
        pd.DataFrame(values, columns=list(properties)),
        [_part(rows, split) for rows in twins],
        split.protocol if split else "",
    )


def _candidates(table: CrystalTable) -> Candidates:
    crystals = list(table.crystals())
    return Candidates(
        ids=table.labels.index.tolist(),
        formulas=table.labels["formula"].astype(str).tolist(),
        spacegroups=table.labels["spacegroup"].to_numpy(np.int64),
        lattice=np.stack([crystal.lattice for crystal in crystals]),
        atom_counts=np.array([len(crystal) for crystal in crystals]),
        numbers=np.concatenate([crystal.numbers for crystal in crystals]),
        frac=np.concatenate([crystal.frac for crystal in crystals]),
    )


def _twins(rows: np.ndarray, candidates: Candidates, crystal: Crystal) -> np.ndarray:
    """Return those rows whose volume per atom is near that of a crystal, the nearest first."""
    distance = np.abs(np.log(candidates.volumes[rows] / crystal.volume_per_atom))
    order = np.argsort(distance, kind="stable")
    return rows[order[distance[order] < np.log(_VOLUME)]]


def _split_of(model: TrainedModel, candidates: Candidates, file: Path, data_dir: Path) -> Split | None:
    """Return the split that a model was trained under, known by its digest, or None."""
    for protocol in LIKELY_SPLITS:
        try:
            split = resolve_split(protocol, SplitRequest(candidates, _SEED, data_dir, data_file=file))
        except CrystrataError:  # no published splits at hand
            continue
        if split.as_dict(candidates.ids)["digest"] == model.facts["split_digest"]:
            return split
    return None


def _part(twins: np.ndarray, split: Split | None) -> str:
    if split is None or not len(twins):
        return "-"
    if np.isin(twins, split.train).any():
        return "trained"
    return "validation" if np.isin(twins, split.val).any() else "left out"
