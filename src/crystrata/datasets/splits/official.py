"""Splits by published ids: one benchmark's own, and the union of all official tests of the suite. n crystals."""

from __future__ import annotations

import numpy as np

from crystrata.datasets.splits.candidates import Candidates, SplitRequest
from crystrata.datasets.splits.grouped import FOR_USE, cut_groups
from crystrata.datasets.splits.prototypes import near_duplicates_of
from crystrata.datasets.splits.published import (
    BENCHMARKS,
    SUITE,
    OfficialSplit,
    download_published,
    mates_of,
    read_published,
)
from crystrata.datasets.splits.split import Split
from crystrata.errors import UsageError, unknown_name

SPLITS_FILE = "leaderboard_splits.parquet"
"""Name under which published splits are looked for beside the data file."""

UNIVERSAL = "multitask_from_formation_energy"
"""The split of the formation energy by id; the leaderboard itself has it as `formation_energy_peratom`."""

UNION_VALIDATION = 0.1

_MOST_HELD = 0.25  # of the crystals that may be held out for use, in each part


def split_as_published(request: SplitRequest, protocol: str) -> Split:
    """Validate and test on the official ids of one benchmark (`official:<benchmark>`); train on every other crystal."""
    benchmark = protocol.partition(":")[2]
    return _by_ids(request, protocol, benchmark, _published(request, protocol, (benchmark,)))


def split_by_formation_energy(request: SplitRequest, protocol: str) -> Split:
    """Split every crystal by the official ids of the formation energy, whatever the property."""
    published = _published(request, protocol, ("formation_energy_peratom",))
    return _by_ids(request, protocol, UNIVERSAL if UNIVERSAL in published else "formation_energy_peratom", published)


def split_by_union(request: SplitRequest, protocol: str) -> Split:
    """Test on the union of the official tests of the nine properties; near-duplicates of tested crystals stay."""
    return _union(request, protocol, drop_near_duplicates=False)


def split_by_strict_union(request: SplitRequest, protocol: str) -> Split:
    """The same, and near-duplicates of tested crystals are neither trained nor validated on."""
    return _union(request, protocol, drop_near_duplicates=True)


def split_for_use_from_union(request: SplitRequest, protocol: str) -> Split:
    """Hold a few official test crystals out, of formulas that a run by `union` neither trains nor validates on."""
    union, crystals = split_by_union(request, protocol), request.crystals
    known = {crystals.formulas[row] for row in (*union.train, *union.val)}
    unseen = np.array([row for row in union.test if crystals.formulas[row] not in known], dtype=np.int64)
    if not len(unseen):
        raise UsageError(f"--split {protocol}: every formula of the official tests is also trained on by union")
    share = min(FOR_USE * len(crystals) / len(unseen), _MOST_HELD)
    formulas = [crystals.formulas[row] for row in unseen]
    parts = cut_groups(formulas, (1 - 2 * share, share, share), seed=request.seed)
    held = np.concatenate(parts[1:])
    train = np.setdiff1d(np.arange(len(crystals)), unseen[held])
    return Split(train, unseen[parts[1]], unseen[parts[2]], protocol, request.seed)


def _published(request: SplitRequest, protocol: str, benchmarks: tuple[str, ...]) -> dict[str, OfficialSplit]:
    """Return the published splits: from the file named, the one beside the data, or the leaderboard's download.

    Raises:
        UsageError: These are the demo crystals, or a benchmark is unknown.
        DataError: There is no file and no network, or the file is damaged.
    """
    if request.crystals.demo:
        raise UsageError(
            f"--split {protocol} names JARVIS crystals, but these are the demo crystals: "
            f"give the data with --data-file or --source jarvis, or take --split random"
        )
    beside = request.data_file.with_name(SPLITS_FILE) if request.data_file else None
    path = request.splits_file or (beside if beside and beside.exists() else None)
    known = published = read_published(path) if path else {}
    for name in benchmarks:
        if name not in (known or BENCHMARKS):
            raise unknown_name(f"benchmark{f' in {path.name}' if path else ''}", name, known or BENCHMARKS)
    if path is None:
        published = download_published(dict.fromkeys((*SUITE, *benchmarks)), request.data_dir / "splits")
    return published


def _by_ids(request: SplitRequest, protocol: str, benchmark: str, published: dict[str, OfficialSplit]) -> Split:
    crystals, ids = request.crystals, published[benchmark]
    test = crystals.all_rows(ids.test, f"--split {protocol}")
    val = crystals.rows(ids.val)
    if not len(val):
        raise UsageError(f"--split {protocol}: none of its {len(ids.val)} validation crystals is in this data")
    evaluated = np.zeros(len(crystals), dtype=bool)
    evaluated[test] = evaluated[val] = True
    train = np.flatnonzero(~evaluated)
    notes = {"validation_ids_not_in_data": len(ids.val) - len(val), **_near_duplicate_notes(crystals, train, val, test)}
    tests = {name: test for name in mates_of(benchmark, published) if name != UNIVERSAL}  # no benchmark of its own
    return Split(train, val, test, protocol, request.seed, official_tests=tests, notes=notes)


def _union(request: SplitRequest, protocol: str, *, drop_near_duplicates: bool) -> Split:
    crystals, published = request.crystals, _published(request, protocol, SUITE)
    tests = {name: crystals.all_rows(published[name].test, f"--split {protocol}") for name in SUITE}
    test = np.unique(np.concatenate(list(tests.values())))
    left = np.ones(len(crystals), dtype=bool)
    left[test] = False
    near = near_duplicates_of(crystals, test)
    if drop_near_duplicates:
        left &= ~near
    rest = np.flatnonzero(left)
    formulas = [crystals.formulas[row] for row in rest]
    train, val = (
        rest[part] for part in cut_groups(formulas, (1 - UNION_VALIDATION, UNION_VALIDATION), seed=request.seed)
    )
    notes = _near_duplicate_notes(crystals, train, val, test)
    if drop_near_duplicates:
        notes["left_out_near_duplicates_of_test"] = int(near.sum())
    return Split(train, val, test, protocol, request.seed, official_tests=tests, notes=notes)


def _near_duplicate_notes(crystals: Candidates, train: np.ndarray, val: np.ndarray, test: np.ndarray) -> dict[str, int]:
    near = near_duplicates_of(crystals, test)
    return {
        "near_duplicates_of_test_in_train": int(near[train].sum()),
        "near_duplicates_of_test_in_val": int(near[val].sum()),
    }
