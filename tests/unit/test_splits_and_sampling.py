"""Splits keep groups whole and depend on nothing but the seed; the sampler shows every row once an epoch."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from crystrata.datasets.random_order import hash_position
from crystrata.datasets.sampling import EpochSampler, Step, fixed_batches
from crystrata.datasets.splits import PARTS, Split, random_split, subsample

RNG = np.random.default_rng(6)
GROUPS = [f"group {g}" for g in RNG.permutation(np.repeat(np.arange(3000), RNG.integers(1, 6, 3000)))]
IDS = [f"JVASP-{n}" for n in range(len(GROUPS))]


@pytest.fixture(scope="module")
def split() -> Split:
    return random_split(GROUPS, seed=0)


def test_every_row_is_in_one_part(split: Split) -> None:
    rows = np.concatenate([split.part(name) for name in PARTS])
    assert np.array_equal(np.sort(rows), np.arange(len(GROUPS)))
    for name in PARTS:
        assert (np.diff(split.part(name)) > 0).all()
    assert (split.protocol, split.seed) == ("random", 0)


def test_parts_have_their_shares(split: Split) -> None:
    shares = [len(split.part(name)) / len(GROUPS) for name in PARTS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.002)


def test_groups_stay_whole(split: Split) -> None:
    parts = [{GROUPS[row] for row in split.part(name)} for name in PARTS]
    assert sum(len(part) for part in parts) == len(set(GROUPS))


def test_a_large_group_is_not_cut() -> None:
    split = random_split(["SiO2"] * 500 + [f"other {n}" for n in range(500)], seed=1)
    assert set(range(500)) <= set(split.train)
    assert [len(split.part(name)) for name in PARTS] == [800, 100, 100]


@pytest.mark.parametrize("seed", range(4))
def test_large_groups_do_not_spoil_the_shares(seed: int) -> None:
    sizes = (6000 / np.arange(1, 3000) ** 0.9).astype(int) + 1  # a few structure types hold most crystals
    groups = np.random.default_rng(1).permutation(np.repeat([f"type {n}" for n in range(len(sizes))], sizes))
    split = random_split(groups.tolist(), seed=seed)
    shares = [len(split.part(name)) / len(groups) for name in PARTS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    parts = [set(groups[split.part(name)]) for name in PARTS]
    assert len(set.union(*parts)) == sum(map(len, parts)) == len(sizes)
    large = {f"type {n}" for n in np.flatnonzero(sizes > 0.01 * len(groups))}
    assert len(large) > 4
    assert large <= parts[0]
    order = np.random.default_rng(2).permutation(len(groups))
    shuffled = random_split(groups[order].tolist(), seed=seed)
    assert np.array_equal(np.sort(order[shuffled.test]), split.test)


def test_large_groups_fill_training_and_no_more() -> None:
    groups = [f"system {n % 20}" for n in range(600)]  # every group is larger than a tenth of a part
    split = random_split(groups, seed=0)
    assert [len(split.part(name)) for name in PARTS] == [480, 60, 60]
    most = random_split(["SiO2"] * 900 + [f"other {n}" for n in range(100)], seed=3)
    assert [len(most.part(name)) for name in PARTS] == [900, 50, 50]  # the others shrink alike


def test_in_small_data_a_few_rows_make_no_group_large() -> None:
    groups = [f"three of {n // 3}" for n in range(90)] + [f"one of {n}" for n in range(40)]
    tested = {groups[row][:3] for seed in range(5) for row in random_split(groups, seed=seed).test}
    assert tested == {"thr", "one"}


def test_without_large_groups_the_hash_order_is_cut(split: Split) -> None:
    names, ahead = np.array(GROUPS), 0
    parts = {name: set(split.part(name).tolist()) for name in PARTS}
    for name in sorted(set(GROUPS), key=lambda name: hash_position(0, name)):
        rows = np.flatnonzero(names == name)
        part = "train" if ahead < 0.8 * len(names) else "val" if ahead < 0.9 * len(names) else "test"
        assert set(rows.tolist()) <= parts[part]
        ahead += len(rows)


def test_the_seed_alone_decides(split: Split) -> None:
    again = random_split(GROUPS, seed=0)
    other = random_split(GROUPS, seed=1)
    for name in PARTS:
        assert np.array_equal(again.part(name), split.part(name))
    assert len(np.intersect1d(other.test, split.test)) < 0.2 * len(split.test)


def test_the_order_of_rows_does_not_decide(split: Split) -> None:
    order = np.random.default_rng(1).permutation(len(GROUPS))
    shuffled = random_split([GROUPS[row] for row in order], seed=0)
    for name in PARTS:
        assert np.array_equal(np.sort(order[shuffled.part(name)]), split.part(name))


def test_the_split_is_the_same_in_another_process() -> None:
    program = (
        "import json; from crystrata.datasets.splits import random_split\n"
        "print(json.dumps(random_split([f'g{n % 70}' for n in range(200)], seed=3).test.tolist()))"
    )
    source = str(Path(__file__).resolve().parents[2] / "src")
    environment = {"PYTHONPATH": source, "PYTHONHASHSEED": "123"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == random_split([f"g{n % 70}" for n in range(200)], seed=3).test.tolist()


def test_what_is_saved_names_the_crystals(split: Split) -> None:
    saved = split.as_dict(IDS)
    assert saved["test"] == [IDS[row] for row in split.test]
    assert {*saved["train"], *saved["val"], *saved["test"]} == set(IDS)
    assert json.loads(json.dumps(saved)) == saved
    assert saved["digest"] == random_split(GROUPS, seed=0).as_dict(IDS)["digest"]
    assert saved["digest"] != random_split(GROUPS, seed=1).as_dict(IDS)["digest"]


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    whole = random_split(GROUPS[:1200], seed=0)
    samples = [subsample(whole, size, IDS) for size in range(3, 700)]
    for small, large in pairwise(samples):
        for name in PARTS:
            assert np.isin(small.part(name), large.part(name)).all(), f"{name}, {len(small.train)} training rows"


@pytest.mark.parametrize("size", [3, 10, 60, 140, 800, 3000])
def test_a_sample_keeps_rows_in_their_parts_and_is_no_larger_than_asked(split: Split, size: int) -> None:
    small = subsample(split, size, IDS)
    assert sum(len(small.part(name)) for name in PARTS) == size
    for name in PARTS:
        assert len(small.part(name)) > 0
        assert np.isin(small.part(name), split.part(name)).all()
        assert (np.diff(small.part(name)) > 0).all()
    if size >= 140:
        assert min(len(small.val), len(small.test)) >= 20
        assert len(small.train) >= 0.7 * size
    assert (small.protocol, small.seed) == (split.protocol, split.seed)


def test_a_sample_larger_than_the_data_is_the_data(split: Split) -> None:
    everything = subsample(split, 20 * len(GROUPS), IDS)
    for name in PARTS:
        assert np.array_equal(everything.part(name), split.part(name))


def epoch_of(sampler: EpochSampler, epoch: int) -> list[Step]:
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("accumulate", [1, 3, 100])
@pytest.mark.parametrize("batch_size", [1, 7, 64, 500])
def test_an_epoch_shows_every_row_once(batch_size: int, accumulate: int) -> None:
    rows = np.arange(0, 402, 2)
    sampler = EpochSampler(rows, batch_size, accumulate=accumulate, seed=1)
    steps = epoch_of(sampler, 0)
    assert len(steps) == len(sampler)
    assert np.array_equal(np.sort(np.concatenate([step.rows for step in steps])), rows)
    assert all(len(step.rows) == batch_size * accumulate for step in steps[:-1])
    for step in steps:
        parts = step.micro_batches()
        assert np.array_equal(np.concatenate(parts), step.rows)
        assert len(parts) <= accumulate
        assert all(len(part) == batch_size for part in parts[:-1])


def test_a_continued_epoch_shows_the_rest_and_the_next_one_all() -> None:
    sampler = EpochSampler(np.arange(100), 4, accumulate=2, seed=1)
    whole, after = epoch_of(sampler, 3), epoch_of(sampler, 4)
    sampler.epoch, sampler.done = 3, 5
    rest = epoch_of(sampler, 3)
    assert [step.rows.tolist() for step in rest] == [step.rows.tolist() for step in whole[5:]]
    assert len(sampler) == len(whole)
    assert [step.rows.tolist() for step in epoch_of(sampler, 4)] == [step.rows.tolist() for step in after]


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(np.arange(100), 8, seed=seed)
        return np.concatenate([step.rows for step in epoch_of(sampler, epoch)]).tolist()

    assert order(5, 2) == order(5, 2)
    orders = {tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    sampler = EpochSampler(np.arange(100), 8, seed=5)
    list(sampler)  # an epoch seen, or left halfway, has no influence on a later one
    next(iter(sampler))
    assert np.concatenate([step.rows for step in epoch_of(sampler, 2)]).tolist() == order(5, 2)


def test_evaluation_takes_rows_by_size_in_a_fixed_order() -> None:
    atom_counts = np.array([9, 2, 40, 2, 7, 1, 9])
    steps = fixed_batches(np.array([0, 1, 2, 3, 5, 6]), atom_counts, 4)
    assert [step.rows.tolist() for step in steps] == [[5, 1, 3, 0], [6, 2]]
    assert all(len(step.micro_batches()) == 1 for step in steps)
    assert fixed_batches(np.zeros(0, dtype=np.int64), atom_counts, 4) == []


def test_evaluation_bounds_the_atoms_of_a_batch_but_takes_every_row() -> None:
    atom_counts = np.array([9, 2, 40, 2, 7, 1, 9])
    batches = fixed_batches(np.arange(7), atom_counts, 4, max_atoms=18)
    assert [batch.rows.tolist() for batch in batches] == [[5, 1, 3, 4], [0, 6], [2]]
