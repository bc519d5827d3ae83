"""The materials of tables and their split, masks, streams, what is predicted: hand-made cases and what always holds."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystrata.datasets.data_module import BatchDataModule
from crystrata.datasets.dataset import MaterialDataset
from crystrata.datasets.labels import KeyedLabels, Labels, load_labels
from crystrata.datasets.masks import balanced_class_weights, keep_mask, ratio_count, replay_count
from crystrata.datasets.materials import Materials, unite
from crystrata.datasets.random_order import PURPOSES, random_stream, stream_seed
from crystrata.datasets.selection import listed_keys, rows_to_predict
from crystrata.datasets.splits import PARTS, Candidates, Split, SplitRequest, resolve_split
from crystrata.datasets.splits.rarest_first import rare_first
from crystrata.errors import DataError, UsageError
from crystrata.tasks import Task

TRAIN, VAL, TEST = range(3)


def task(
    keys: Sequence[str], known: Sequence[bool] | None = None, split: Mapping[str, str] | None = None
) -> KeyedLabels:
    """Return labels of one number a key."""
    there = np.ones(len(keys), dtype=bool) if known is None else np.array(known)
    parts = np.array([(split or {}).get(key, "") for key in keys], dtype=object)
    return KeyedLabels(tuple(keys), Labels.of_numbers(np.where(there, 1.0, np.nan)), parts, tuple(map(str.lower, keys)))


def names(count: int, prefix: str = "k") -> list[str]:
    return [f"{prefix}{number:05d}" for number in range(count)]


@dataclass(frozen=True)
class Known:
    """Materials, with the labels of their tasks."""

    materials: Materials
    labels: dict[str, Labels]

    @classmethod
    def of(
        cls,
        labels: Mapping[str, KeyedLabels],
        predict: Iterable[str] = (),
        group_of: Callable[[str], str] = str,
    ) -> Known:
        return cls(*unite(labels, {key: key for key in predict}, group_of))

    @property
    def ids(self) -> tuple[str, ...]:
        return self.materials.ids

    @property
    def known(self) -> dict[str, np.ndarray]:
        return {name: labels.known_samples for name, labels in self.labels.items()}

    def split(self, protocol: str = "by-table", *, seed: int = 42, val: float = 0.1, test: float = 0.1) -> Split:
        crystals, stated = Candidates.of(self.materials), self.materials.stated
        request = SplitRequest(crystals, seed, Path(), stated=stated, known=self.known, val=val, test=test)
        return resolve_split(protocol, request)

    def data(self, split: Split) -> BatchDataModule:
        tasks = [Task(name, columns=("y",)) for name in self.labels]
        return BatchDataModule(MaterialDataset(self.materials, tasks, self.labels), split, batch_size=4)


def parts_of(known: Known, split: Split) -> dict[str, str]:
    """Return key -> part."""
    return {known.ids[row]: part for part in PARTS for row in split.part(part)}


# --- the materials ---------------------------------------------------------------------------------------------------


def test_materials_unite_tasks_and_lists() -> None:
    materials, labels = unite({"a": task(["C", "A"], [True, False]), "b": task(["B", "C"])}, {"Z": "z", "A": "aa"})
    assert materials.ids == ("A", "B", "C", "Z")
    assert {name: there.tolist() for name, there in materials.listed.items()} == {
        "a": [True, False, True, False],
        "b": [False, True, True, False],
    }
    assert labels["a"].known_samples.tolist() == [False, False, True, False]
    assert labels["b"].known_samples.tolist() == [False, True, True, False]
    assert list(materials.written.items()) == [("C", "c"), ("A", "a"), ("B", "b"), ("Z", "z")]
    kept = materials.keep(np.array([True, False, True, True]))
    assert (kept.ids, kept.listed["b"].tolist(), len(kept)) == (("A", "C", "Z"), [False, True, False], 3)
    with pytest.raises(DataError, match="no task has a composition"):
        unite({})


def test_stated_parts_are_overlaid_and_test_takes_precedence_over_val_over_train() -> None:
    one = task(list("ABCDE"), split={"A": "train", "B": "train", "C": "val", "D": "val"})
    two = task(list("ABCDE"), split={"A": "val", "B": "test", "C": "test", "D": "val"})
    for labels in ({"one": one, "two": two}, {"two": two, "one": one}):
        with pytest.warns(UserWarning, match=r"3 compositions stand in different parts .*\(A, B, C\)"):
            materials, _ = unite(labels)
        assert materials.stated.tolist() == [VAL, TEST, TEST, VAL, -1]


def test_stated_parts_are_followed_and_the_rest_is_assigned() -> None:
    keys = names(1000)
    stated = dict.fromkeys(keys[:300], "train") | dict.fromkeys(keys[300:500], "test")
    materials = Known.of({"a": task(keys, split=stated)})
    split = materials.split(val=0.2, test=0.1)
    found = parts_of(materials, split)
    assert all(found[key] == part for key, part in stated.items())
    rest = [found[key] for key in keys[500:]]
    assert (rest.count("val"), rest.count("test")) == (100, 50)
    assert split.protocol == "split column + rare first"
    assert Known.of({"a": task(keys)}).split().protocol == "rare first"
    whole = Known.of({"a": task(keys[:500], split=stated)}).split()
    assert (whole.protocol, len(whole.train), len(whole.val), len(whole.test)) == ("split column", 300, 0, 200)


def test_everything_may_be_test() -> None:
    split = Known.of({"a": task(list("AB"), split={"A": "train"})}).split("test-all")
    assert (split.test.tolist(), len(split.train), len(split.val), split.protocol) == ([0, 1], 0, 0, "test_all")


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.1), (0.5, 0.5), (0.1, 1.0), (float("nan"), 0.1)])
def test_shares_that_cannot_be(val: float, test: float) -> None:
    with pytest.raises(UsageError, match="below 1 together"):
        Known.of({"a": task(["A"])}).split(val=val, test=test)


def test_a_key_without_stated_part_joins_its_group() -> None:
    group_of = {"Fe2O3": "Fe2O3", "Fe4O6": "Fe2O3", "Fe6O9": "Fe2O3"}.__getitem__
    materials = Known.of({"a": task(["Fe2O3", "Fe4O6"], split={"Fe4O6": "test"})}, ["Fe6O9"], group_of)
    assert materials.split().test.tolist() == [0, 1, 2]
    stated = {"Fe4O6": "test", "Fe2O3": "train"}
    divided = Known.of({"a": task(["Fe2O3", "Fe4O6", "Fe6O9"], split=stated)}, group_of=group_of)
    with pytest.warns(UserWarning, match="put 1 groups of one reduced formula into several parts"):
        split = divided.split()
    assert (split.train.tolist(), split.test.tolist()) == ([0], [1, 2])
    assert split.notes == {"groups in several parts": 1}


# --- rare first ------------------------------------------------------------------------------------------------------


def by_the_letter(available: np.ndarray, order: np.ndarray, val: float, test: float) -> list[int]:
    """The rule as it is written down, one group after the other."""
    placed: dict[int, int] = {}
    total_test = total_val = 0.0
    given_test = given_val = 0
    tasks = sorted(range(available.shape[1]), key=lambda column: (int(available[:, column].sum()), column))
    for column in [*tasks, None]:
        rows = [
            row for row in range(len(available)) if row not in placed and (column is None or available[row, column])
        ]
        rows.sort(key=lambda row: order[row])
        total_test += test * len(rows)
        n_test = max(0, min(len(rows), round(total_test) - given_test))
        given_test += n_test
        total_val += val * len(rows)
        n_val = max(0, min(len(rows) - n_test, round(total_val) - given_val))
        given_val += n_val
        for place, row in enumerate(rows):
            placed[row] = TEST if place < n_test else VAL if place < n_test + n_val else TRAIN
    return [placed[row] for row in range(len(available))]


@st.composite
def availabilities(draw: st.DrawFn) -> np.ndarray:
    groups, tasks = draw(st.integers(1, 60)), draw(st.integers(0, 6))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    return generator.random((groups, tasks)) < generator.random(tasks) ** 2


SHARES = st.tuples(st.floats(0, 0.45), st.floats(0, 0.45))


@given(availabilities(), SHARES, st.integers(0, 2**32))
def test_rare_first_is_the_rule_and_meets_the_shares(
    available: np.ndarray, shares: tuple[float, float], seed: int
) -> None:
    val, test = shares
    order = np.random.default_rng(seed).permutation(len(available))
    part = rare_first(available, order, val=val, test=test)
    assert part.tolist() == by_the_letter(available, order, val, test)
    assert abs((part == TEST).sum() - test * len(part)) <= 0.5 + 1e-9
    rarest = available[:, np.argsort(available.sum(axis=0), kind="stable")[:1]].any(axis=1)
    for place, share in ((TEST, test), (VAL, val)):  # the rarest task has the first turn, all of it
        assert abs((part[rarest] == place).sum() - share * rarest.sum()) <= 1


@given(availabilities(), SHARES, st.integers(0, 2**32))
def test_each_turn_meets_the_shares_within_one(available: np.ndarray, shares: tuple[float, float], seed: int) -> None:
    val, test = shares
    part = rare_first(available, np.random.default_rng(seed).permutation(len(available)), val=val, test=test)
    taken = np.zeros(len(part), dtype=bool)
    for column in [*np.argsort(available.sum(axis=0), kind="stable"), None]:
        turn = ~taken if column is None else available[:, column] & ~taken
        taken |= turn
        assert abs((part[turn] == TEST).sum() - test * turn.sum()) <= 1 + 1e-9
        assert abs((part[turn] == VAL).sum() - val * turn.sum()) <= 2 + 1e-9  # one may wait behind test for its turn
        assert abs((part[taken] == TEST).sum() - test * taken.sum()) <= 0.5 + 1e-9


def test_many_small_turns_still_give_the_shares() -> None:
    available = np.eye(200, dtype=bool)  # each task knows one group alone
    part = rare_first(available, np.arange(200), val=0.1, test=0.1)
    assert np.bincount(part).tolist() == [160, 20, 20]


def test_rare_tasks_have_the_first_claim() -> None:
    keys = names(2000)
    materials = Known.of({"common": task(keys), "rare": task(keys[:20])})
    counts = materials.data(materials.split()).label_counts()
    assert counts["rare"] == {"train": 16, "val": 2, "test": 2}
    assert counts["common"] == {"train": 1600, "val": 200, "test": 200}


def test_a_part_that_has_no_label_of_a_task_is_reported() -> None:
    keys = names(40)
    materials = Known.of({"common": task(keys), "single": task(keys[:1]), "empty": task(keys[:1], [False])})
    data = materials.data(materials.split())
    assert data.unlabelled() == {"single": ["val", "test"], "empty": ["train", "val", "test"]}
    assert data.label_counts()["single"] == {"train": 1, "val": 0, "test": 0}
    common = Known.of({"a": task(keys)})
    assert common.data(common.split(val=0)).unlabelled() == {}  # no val was asked for


@given(st.integers(0, 2**32), st.permutations(range(5)), st.integers(1, 6))
def test_groups_stay_whole_and_no_order_matters(seed: int, turns: list[int], polymorphs: int) -> None:
    generator = np.random.default_rng(seed)
    keys = names(120)
    group_of = {key: f"g{number // polymorphs}" for number, key in enumerate(keys)}.__getitem__
    chosen = [np.flatnonzero(generator.random(120) < share) for share in (0.02, 0.1, 0.1, 0.5, 0.9)]
    labels = {f"t{number}": task([keys[row] for row in rows]) for number, rows in enumerate(chosen)}
    mixed = {f"t{number}": task([keys[row] for row in chosen[number][::-1]]) for number in turns}
    materials, again = (Known.of(one, group_of=group_of) for one in (labels, mixed))
    found = parts_of(materials, materials.split(seed=seed))
    assert found == parts_of(again, again.split(seed=seed))
    sides: dict[str, set[str]] = {}
    for key, part in found.items():
        sides.setdefault(group_of(key), set()).add(part)
    assert all(len(parts) == 1 for parts in sides.values())
    assert sorted(found) == list(materials.ids)
    tested = sum(parts == {"test"} for parts in sides.values())
    assert abs(tested - 0.1 * len(sides)) <= 0.5 + 1e-9


def test_another_seed_gives_another_split() -> None:
    materials = Known.of({"a": task(names(200))})
    one, two = (materials.split(seed=seed) for seed in (42, 43))
    np.testing.assert_array_equal(one.test, materials.split(seed=42).test)
    assert one.test.tolist() != two.test.tolist()
    assert (one.seed, one.notes) == (42, {})
    assert set(one.as_dict(materials.ids)["test"]) == {materials.ids[row] for row in one.test}


# --- masks, weights, streams -----------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=80), st.floats(0, 1), st.integers(0, 2**40), st.integers(0, 500))
def test_masks_keep_the_ratio_of_what_is_known(known: list[bool], ratio: float, seed: int, epoch: int) -> None:
    valid = np.array(known, dtype=bool)
    count = ratio_count(ratio, int(valid.sum()))
    kept = keep_mask(valid, count, task="dos", seed=seed, epoch=epoch)
    assert kept.sum() == round(ratio * valid.sum())
    assert not (kept & ~valid).any()
    np.testing.assert_array_equal(kept, keep_mask(valid, count, task="dos", seed=seed, epoch=epoch))
    fewer = keep_mask(valid, count // 2, task="dos", seed=seed, epoch=epoch)
    assert not (fewer & ~kept).any()


def test_masks_differ_by_task_seed_and_epoch_alone() -> None:
    valid = np.ones(200, dtype=bool)
    kept = [
        keep_mask(valid, 20, task=name, seed=seed, epoch=epoch)
        for name, seed, epoch in (("a", 1, 0), ("b", 1, 0), ("a", 2, 0), ("a", 1, 1))
    ]
    assert len({mask.tobytes() for mask in kept}) == 4
    covered = np.logical_or.reduce([keep_mask(valid, 20, task="a", seed=1, epoch=epoch) for epoch in range(40)])
    assert covered.sum() > 190  # drawn again each epoch, nearly every sample has its turn
    assert keep_mask(valid, 200, task="a", seed=1).all()


@pytest.mark.parametrize(
    ("amount", "valid", "count"),
    [(0, 9, 0), (0.05, 200, 10), (0.1, 5, 0), (0.999, 10, 10), (1, 9, 1), (50, 9, 9), (7.0, 9, 7)],
)
def test_replay_amounts_are_fractions_or_counts(amount: float, valid: int, count: int) -> None:
    assert replay_count(amount, valid) == count


@pytest.mark.parametrize("amount", [-0.1, -3, 1.5, float("nan"), float("inf")])
def test_other_replay_amounts_are_refused(amount: float) -> None:
    with pytest.raises(UsageError, match="fractions below 1 or whole numbers"):
        replay_count(amount, 10)
    if amount != 1.5:
        with pytest.raises(UsageError, match="from 0 to 1"):
            ratio_count(amount, 10)


def test_balanced_weights() -> None:
    weights = balanced_class_weights(np.array([0, 0, 0, 0, 0, 0, 1, 1, -1]), 3)
    np.testing.assert_allclose(weights, [8 / 18, 8 / 6, 8 / 6])
    assert weights.dtype == np.float32
    even = np.repeat(np.arange(4), 5)
    np.testing.assert_array_equal(balanced_class_weights(even, 4), np.ones(4))
    with pytest.raises(DataError, match="at least one training label"):
        balanced_class_weights(np.array([-1, -1]), 2)


def test_streams_are_independent_and_fixed() -> None:
    seeds = [stream_seed(seed, purpose) for seed in (0, 1, 42) for purpose in PURPOSES]
    assert len(set(seeds)) == len(seeds)
    assert stream_seed(42, "split") == 36786606190092331  # a split of today is the split of tomorrow
    first = random_stream(42, "masks", 7, 0).random(4)
    random_stream(42, "loader").random(1000)
    np.testing.assert_array_equal(first, random_stream(42, "masks", 7, 0).random(4))
    assert not np.array_equal(first, random_stream(42, "masks", 7, 1).random(4))
    with pytest.raises(UsageError, match="did you mean 'masks'"):
        stream_seed(42, "mask")


# --- what is predicted -----------------------------------------------------------------------------------------------


def spec(name: str, predict: str | tuple[str, ...] | None) -> Task:
    return Task(name, columns=("y",), predict_idx=predict)


def test_each_task_chooses_and_the_materials_order() -> None:
    stated = {"A": "train", "B": "val", "C": "test", "D": "test"}
    materials = Known.of({"one": task(list("DBCA"), split=stated), "two": task(list("AD"), split=stated)}, ["E"])
    split = materials.split(val=0, test=0)

    def chosen(*specs: Task) -> str:
        return "".join(materials.ids[row] for row in rows_to_predict(specs, materials.materials, split))

    assert chosen(spec("one", None)) == "CD"
    assert chosen(spec("two", None)) == "D"
    assert chosen(spec("one", "train")) == "A"
    assert chosen(spec("one", "val"), spec("two", "all")) == "ABD"
    assert chosen(spec("one", "all")) == "ABCD"
    assert chosen(spec("two", ("E", "B"))) == "BE"
    assert chosen(Task("rebuilt", "autoencoder")) == "CD"
    assert chosen(Task("rebuilt", "autoencoder", predict_idx="all")) == "ABCDE"


def test_without_a_test_part_everything_is_predicted() -> None:
    known = Known.of({"one": task(list("AB"))})
    split = known.split(val=0, test=0)
    assert rows_to_predict([spec("one", None)], known.materials, split).tolist() == [0, 1]
    assert rows_to_predict([spec("one", "test")], known.materials, split).tolist() == []


def test_listed_compositions_without_descriptor_are_skipped_with_a_warning() -> None:
    specs = [spec("one", ("O3Fe2", "XyZ")), spec("two", ("Fe2O3", "NaCl"))]
    key_of = {"O3Fe2": "Fe2O3"}
    listed = listed_keys(specs, lambda name: key_of.get(name, name))
    assert listed == {"Fe2O3": "O3Fe2", "XyZ": "XyZ", "NaCl": "NaCl"}
    known = Known.of({"one": task(["KBr"])}, listed)
    described = np.array([key != "XyZ" for key in known.ids])
    rows = np.flatnonzero(described)
    known = Known(known.materials.keep(described), {name: one.at(rows) for name, one in known.labels.items()})
    materials, split = known.materials, known.split()
    with pytest.warns(
        UserWarning, match=re.escape("1 compositions to predict have no descriptor and are skipped (XyZ)")
    ):
        rows = rows_to_predict(specs, materials, split, lambda name: key_of.get(name, name))
    assert [materials.ids[row] for row in rows] == ["Fe2O3", "NaCl"]


# --- real data -------------------------------------------------------------------------------------------------------


def test_sixty_thousand_real_rows_are_split_in_seconds() -> None:
    if not os.environ.get("CRYSTRATA_JARVIS"):
        pytest.skip("CRYSTRATA_JARVIS names no compact JARVIS file")
    path = Path(os.environ["CRYSTRATA_JARVIS"])
    columns = {"energy": "formation_energy_peratom", "gap": "mbj_bandgap", "dij": "dfpt_piezo_max_dij"}
    specs = [
        Task(name, columns=(column,), data_files=(str(path),), composition_column="jid")
        for name, column in columns.items()
    ]
    spectra = pd.read_parquet(path.with_name("jarvis_phdos.parquet"))
    spectra["wavenumber"] = [np.linspace(-300, 1000, 66)] * len(spectra)
    spectra = spectra.drop(columns="split")
    formulas = pd.read_parquet(path, columns=["jid", "formula"]).set_index("jid")["formula"].to_dict()
    started = time.process_time()
    labels = load_labels(specs)
    dos = Task("dos", "curve", columns=("ph_dos",), t_column="wavenumber", composition_column="jid")
    labels |= load_labels([dos], table=spectra)
    materials = Known.of(labels, group_of=lambda key: formulas.get(key, key))
    split = materials.split()
    taken = time.process_time() - started
    counts = materials.data(split).label_counts()
    assert len(materials.ids) >= 55_712
    assert len(split.train) + len(split.val) + len(split.test) == len(materials.ids)
    assert sum(counts["dij"].values()) == 3_345
    for per_part in counts.values():
        total = sum(per_part.values())
        assert [per_part[part] / total for part in PARTS] == pytest.approx([0.8, 0.1, 0.1], abs=0.03)
    print(f"{len(materials.ids)} keys read, united and split in {taken:.1f} s of CPU; {counts}")
    assert taken < 20
