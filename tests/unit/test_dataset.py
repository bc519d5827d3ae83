"""The dataset: graphs and targets side by side, unknown labels, and the hull that no tested crystal takes part in."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from known_crystals import CRYSTALS, SETTINGS, table_of

from crystrata.datasets.data_module import BatchDataModule
from crystrata.datasets.dataset import CrystalPropertyDataset
from crystrata.datasets.labels import column_labels
from crystrata.datasets.sampling import Step
from crystrata.datasets.splits import Split
from crystrata.errors import DataError, TrainingError, UsageError
from crystrata.graphs.batch import BatchForm
from crystrata.hull import TrainingHull, formula_counts
from crystrata.jarvis_properties import GROUPS, get_property
from crystrata.runs.config import resolve_config
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal
from crystrata.workflows import prepare
from crystrata.workflows.prepare import training_hulls

NAN = float("nan")
OVERLAP = Crystal.create("overlap", 6 * np.eye(3), [14, 14], np.zeros((2, 3)))
SILICA = replace(CRYSTALS[3], id="wide quartz", lattice=1.04 * CRYSTALS[3].lattice)
SALT = replace(CRYSTALS[1], id="wide salt", lattice=1.04 * CRYSTALS[1].lattice)
ALL = (*CRYSTALS[:2], OVERLAP, *CRYSTALS[2:], SILICA, SALT)
KEPT = [crystal for crystal in ALL if crystal is not OVERLAP]
TRAIN, VAL, TEST = np.array([0, 1, 3, 4, 5, 6]), np.array([2, 7]), np.array([8, 9])  # wide quartz and salt are tested


def labels() -> dict[str, list[float]]:
    """Label columns as JARVIS has them, one row for each of `ALL`; row 2 belongs to the rejected crystal."""
    return {
        "formation_energy_peratom": [0.0, -2.0, 9.0, -0.4, -3.0, -3.4, -1.0, 0.0, NAN, -2.9, -2.1],
        "optb88vdw_bandgap": [0.7, 5.0, 9.0, 0.3, 5.8, 1.8, 0.0, 0.0, NAN, 5.5, 4.9],
        "mbj_bandgap": [1.2, 8.0, 9.0, 1.5, NAN, NAN, NAN, NAN, NAN, NAN, NAN],
        "bulk_modulus_kv": [90.0, 25.0, 9.0, 70.0, 38.0, 170.0, 60.0, 36.0, 140.0, NAN, 24.0],
        "shear_modulus_gv": [60.0, 15.0, 9.0, 45.0, 44.0, 110.0, 30.0, 18.0, 48.0, NAN, NAN],
        "epsx": [12.0, 2.4, 9.0, 14.0, 2.3, 6.0, 8.0, NAN, NAN, NAN, np.inf],
        "epsy": [12.0, 2.4, 9.0, 14.0, 2.3, NAN, 9.0, NAN, NAN, NAN, 2.4],
        "epsz": [12.0, 2.4, 9.0, 14.0, 2.6, 6.0, 10.0, NAN, NAN, NAN, 2.4],
        "dfpt_piezo_max_dij": [0.0, 0.0, 9.0, 2.7, 2.3, NAN, NAN, NAN, NAN, NAN, NAN],
        "spillage": [0.0, 0.0, 9.0, 0.1, 0.0, 0.1, 0.9, NAN, NAN, NAN, NAN],
    }


def table(**changes: list[float]) -> CrystalTable:
    return table_of(ALL, **{**labels(), **changes})


def with_energy(row_id: str, value: float) -> CrystalTable:
    """The table with the formation energy of one crystal changed."""
    known = table()
    frame = known.labels.copy()
    frame.loc[row_id, "formation_energy_peratom"] = value
    return replace(known, labels=frame)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture
def dataset(stores: Path) -> CrystalPropertyDataset:
    return CrystalPropertyDataset(table(), stores, graph=SETTINGS)


def column(dataset: CrystalPropertyDataset, name: str) -> list[float]:
    return dataset.numbers([name])[:, 0].tolist()


def names(dataset: CrystalPropertyDataset) -> list[str]:
    return [task.name for task in dataset.tasks]


def hull_of(
    dataset: CrystalPropertyDataset,
    train: np.ndarray,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TrainingHull:
    config = resolve_config(properties=["ehull"], outlier_filter=False, data_dir=str(folder))
    split = Split(train, train[:0], train[:0], "random", 0)
    return training_hulls(config, dataset.materials, dataset.labels, split, progress)["ehull"]


def test_rows_follow_the_graphs(dataset: CrystalPropertyDataset) -> None:
    assert len(dataset) == 10
    assert list(dataset.ids) == [crystal.id for crystal in KEPT]
    assert names(dataset) == [name for name in GROUPS["all9"] if name != "ehull"]  # which follows
    assert 9.0 not in column(dataset, "bulk_modulus")  # the label of the rejected crystal left with it
    for row, crystal in enumerate(KEPT):
        assert dataset[row].z.tolist() == crystal.numbers.tolist()


def test_several_columns_are_averaged_and_all_must_be_known(dataset: CrystalPropertyDataset) -> None:
    found = column(dataset, "dielectric")
    assert found[:4] == pytest.approx([12.0, 2.4, 14.0, 2.4])
    assert found[5] == pytest.approx(9.0)
    assert np.isnan([found[4], *found[6:]]).all()  # one of three is missing; none is known; one is infinite


def test_an_item_is_a_graph_for_people(dataset: CrystalPropertyDataset) -> None:
    quartz = dataset[3]
    n, edges = len(quartz.z), quartz.edge_index.shape[1]
    assert quartz.id == "quartz"
    assert quartz.num_nodes == n == 9
    assert quartz.z.dtype == torch.int64
    assert quartz.edge_vec.shape == (edges, 3)
    assert quartz.radius.shape == (n,)
    assert quartz.y.shape == (1, 8)
    torch.testing.assert_close(quartz.edge_dist, quartz.edge_vec.norm(dim=1))
    neighbour, centre = quartz.edge_index
    assert (centre.diff() >= 0).all()
    assert (quartz.edge_dist < quartz.radius[centre]).all()
    positions = torch.from_numpy(KEPT[3].frac @ KEPT[3].lattice).float()
    shift = (quartz.edge_vec - positions[neighbour] + positions[centre]).double() @ torch.from_numpy(
        np.linalg.inv(KEPT[3].lattice)
    )
    assert (shift - shift.round()).abs().max() < 1e-5  # neighbour minus centre, up to lattice vectors
    first, second = quartz.angle_index
    assert torch.equal(centre[first], centre[second])
    cosine = torch.nn.functional.cosine_similarity(quartz.edge_vec[first], quartz.edge_vec[second])
    assert (cosine - quartz.angle_cos).abs().max() < 1e-4


def test_items_form_pyg_batches(dataset: CrystalPropertyDataset) -> None:
    from torch_geometric.data import Batch

    batch = Batch.from_data_list([dataset[row] for row in (0, 3, 5)])
    assert batch.num_graphs == 3
    assert batch.y.shape == (3, 8)
    assert batch.edge_index.max() < batch.num_nodes


def test_items_count_from_both_ends(dataset: CrystalPropertyDataset) -> None:
    last, counted = dataset[-1], dataset[9]
    assert last.id == counted.id == "wide salt"
    assert torch.equal(last.y, counted.y) or torch.equal(last.y.isnan(), counted.y.isnan())
    for index in (10, -11):
        with pytest.raises(IndexError, match="of 10"):
            dataset[index]
    assert len(list(dataset)) == 10  # iteration ends


def test_changing_an_item_does_not_change_the_dataset(dataset: CrystalPropertyDataset) -> None:
    for index in (3, -7):
        item = dataset[index]
        for tensor in (item.y, item.edge_vec, item.z, item.radius):
            tensor.zero_()
    assert column(dataset, "bulk_modulus")[3] == 38.0
    assert dataset[3].edge_vec.abs().max() > 0


def test_other_properties_open_the_same_store(dataset: CrystalPropertyDataset, stores: Path) -> None:
    before = dataset.store.path.stat().st_mtime_ns
    other = CrystalPropertyDataset(table(), stores, ["band_gap", "spillage"], SETTINGS)
    assert other.store.path == dataset.store.path
    assert other.store.path.stat().st_mtime_ns == before
    assert names(other) == ["band_gap", "spillage"]
    assert column(other, "band_gap")[:3] == pytest.approx([0.7, 5.0, 0.3])
    assert column(other, "spillage")[5] == pytest.approx(0.9)


def test_a_missing_label_column_is_named(stores: Path) -> None:
    without = replace(table(), labels=table().labels.drop(columns="mbj_bandgap"))
    with pytest.raises(DataError, match="no column 'mbj_bandgap', which band_gap_mbj needs"):
        CrystalPropertyDataset(without, stores, graph=SETTINGS)
    assert names(CrystalPropertyDataset(without, stores, ["band_gap"], SETTINGS)) == ["band_gap"]
    with pytest.raises(UsageError, match="did you mean 'band_gap'"):
        CrystalPropertyDataset(table(), stores, ["bandgap"], SETTINGS)


def test_targets_are_float32_and_never_infinite() -> None:
    frame = pd.DataFrame({"spillage": [1.0, np.inf, -np.inf, np.nan]})
    found = column_labels(get_property("spillage"), frame).numbers
    assert found.dtype == np.float32
    assert np.isnan(found[1:]).all()
    assert found[0] == 1.0


def test_a_batch_masks_what_is_unknown(dataset: CrystalPropertyDataset) -> None:
    rows, step_rows = np.array([8, 3, 0]), np.array([8, 3, 0, 7, 1])
    batch, rest = dataset.batches(Step(step_rows, 3), BatchForm(angles=True))
    assert list(batch.targets) == names(dataset)
    for name, targets in batch.targets.items():
        labels = dataset.numbers([name])[rows, 0]
        assert np.array_equal(targets.known, np.isfinite(labels))
        assert np.array_equal(targets.values, np.nan_to_num(labels, nan=0.0))
        assert torch.isfinite(targets.values).all()
        in_step = sum(int(part.targets[name].known.sum()) for part in (batch, rest))
        assert in_step == np.isfinite(dataset.numbers([name])[step_rows]).sum()
    assert batch.share == pytest.approx(0.6)
    assert batch.rows.tolist() == [8, 3, 0]
    assert batch.crystals.atom_counts.tolist() == [len(KEPT[row]) for row in rows]
    assert batch.crystals.pair.shape[1] > 0
    assert (rest.rows.tolist(), rest.share) == ([7, 1], pytest.approx(0.4))
    assert dataset.batches(Step(rows, 3))[0].crystals.pair.shape[1] == 0
    moved = batch.to("cpu")
    assert all(torch.equal(moved.targets[name].values, one.values) for name, one in batch.targets.items())
    assert moved.share == batch.share


def test_fractions_are_of_the_rows_asked_for(dataset: CrystalPropertyDataset) -> None:
    found = dataset.fractions(np.array([8, 0]))
    assert found.shape == (2, 103)
    assert found[0, 13] == pytest.approx(1 / 3)
    assert found[0, 7] == pytest.approx(2 / 3)
    assert found[1, 13] == 1.0


def test_a_derived_property_stands_for_the_one_it_follows_from(stores: Path) -> None:
    dataset = CrystalPropertyDataset(table(), stores, ["ehull", "band_gap"], SETTINGS)
    assert names(dataset) == ["formation_energy", "band_gap"]
    assert column(dataset, "formation_energy")[3] == pytest.approx(-3.0)


def test_the_hull_is_that_of_the_training_energies(dataset: CrystalPropertyDataset, tmp_path: Path) -> None:
    hull = hull_of(dataset, TRAIN, tmp_path)
    energies = np.array(column(dataset, "formation_energy"))
    assert hull.levels.level.shape == (10,)
    assert np.isfinite(hull.levels.level).all()
    assert (energies[TRAIN] >= hull.levels.level[TRAIN] - 1e-6).all()
    assert hull.levels.level[[3, 8]] == pytest.approx([-3.0, -3.0])  # quartz spans it, wide quartz lies 0.1 above
    assert hull.levels.level[9] == pytest.approx(-2.0)  # wide salt lies 0.1 below: it was not known
    assert hull.levels.level[2] == pytest.approx(0.0)  # GaAs is not in the training part: its elements are all there is


def test_the_kept_crystals_give_the_hull_anywhere(dataset: CrystalPropertyDataset, tmp_path: Path) -> None:
    hull = hull_of(dataset, TRAIN, tmp_path)
    formulas = [crystal.formula for crystal in KEPT]
    np.testing.assert_allclose(hull.reference.at(formula_counts(formulas)).level, hull.levels.level, atol=1e-9)
    half = hull.reference.at(formula_counts(["ClNa3", "OSi", "He"])).level
    assert half == pytest.approx([-1.0, -2.25, 0.0])  # on the way to the element at zero


@pytest.mark.parametrize("value", [NAN, -50.0, 3.0])
@pytest.mark.parametrize("tested", ["wide quartz", "wide salt", "GaAs"])
def test_a_tested_energy_has_no_effect_on_hull_or_labels_of_others(
    dataset: CrystalPropertyDataset, stores: Path, tmp_path: Path, tested: str, value: float
) -> None:
    other = CrystalPropertyDataset(with_energy(tested, value), stores, graph=SETTINGS)
    hulls = hull_of(dataset, TRAIN, tmp_path / "a"), hull_of(other, TRAIN, tmp_path / "b")
    assert np.array_equal(hulls[0].levels.level, hulls[1].levels.level)
    assert np.array_equal(hulls[0].reference.counts, hulls[1].reference.counts)
    assert np.array_equal(hulls[0].reference.energies, hulls[1].reference.energies)
    rest = [row for row, id in enumerate(dataset.ids) if id != tested]
    before, after = (one.numbers(names(one)) for one in (dataset, other))
    assert np.array_equal(after[rest], before[rest], equal_nan=True)
    assert not np.array_equal(after, before, equal_nan=True)


def test_a_training_energy_does_have_an_effect(dataset: CrystalPropertyDataset, stores: Path, tmp_path: Path) -> None:
    other = CrystalPropertyDataset(with_energy("quartz", -3.3), stores, graph=SETTINGS)
    before = hull_of(dataset, TRAIN, tmp_path).levels.level
    after = hull_of(other, TRAIN, tmp_path).levels.level  # the same folder: a changed energy is another hull
    assert after[8] == pytest.approx(before[8] - 0.3)


def test_the_hull_is_solved_once(dataset: CrystalPropertyDataset, stores: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    first = hull_of(dataset, TRAIN, tmp_path, lambda done, total: calls.append((done, total)))
    assert calls
    again = CrystalPropertyDataset(table(), stores, graph=SETTINGS)
    second = hull_of(again, TRAIN, tmp_path, lambda done, total: pytest.fail("solved again"))
    assert np.array_equal(first.levels.level, second.levels.level)
    wider = hull_of(again, np.append(TRAIN, 9), tmp_path)
    assert wider.levels.level[[1, 9]] == pytest.approx([-2.1, -2.1])


def split() -> Split:
    return Split(TRAIN, VAL, TEST, "random", 0)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_go_through_page_locked_memory_where_there_is_a_gpu(
    dataset: CrystalPropertyDataset, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(prepare, "resolve_device", lambda _: torch.device(device))
    data = prepare.loaders(resolve_config(batch_size=4, accumulate=2, seed=3), dataset, split())
    loader = data.train_dataloader()
    assert loader.pin_memory == (device == "cuda")
    assert loader.num_workers == 0
    assert (data.sampler.batch_size, data.sampler.accumulate, data.sampler.seed) == (4, 2, 3)


def test_loaders_show_their_parts(dataset: CrystalPropertyDataset) -> None:
    module = BatchDataModule(dataset, split(), batch_size=4, accumulate=2, seed=3)
    (batches,) = module.train_dataloader()
    assert [len(batch.rows) for batch in batches] == [4, 2]
    assert sorted(torch.cat([batch.rows for batch in batches]).tolist()) == TRAIN.tolist()
    assert sum(batch.share for batch in batches) == pytest.approx(1.0)
    assert batches[0].crystals.pair.shape[1] == 0
    assert sorted(torch.cat([batch.rows for (batch,) in module.val_dataloader()]).tolist()) == VAL.tolist()
    assert sorted(torch.cat([batch.rows for (batch,) in module.test_dataloader()]).tolist()) == TEST.tolist()
    with_angles = BatchDataModule(dataset, split(), batch_size=4, form=BatchForm(angles=True))
    assert next(iter(with_angles.train_dataloader()))[0].crystals.pair.shape[1] > 0


@pytest.mark.slow
def test_loader_processes_bring_the_same_batches(dataset: CrystalPropertyDataset) -> None:
    here = list(BatchDataModule(dataset, split(), batch_size=4, seed=3).train_dataloader())
    there = list(BatchDataModule(dataset, split(), batch_size=4, seed=3, workers=1).train_dataloader())
    for (one,), (other,) in zip(here, there, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.crystals.vector, other.crystals.vector)
        for name, targets in one.targets.items():
            assert torch.equal(targets.values, other.targets[name].values)
            assert torch.equal(targets.known, other.targets[name].known)


def test_parts_without_labels_are_refused_by_name(dataset: CrystalPropertyDataset, stores: Path) -> None:
    module = BatchDataModule(dataset, split(), batch_size=4)
    assert module.label_counts()["bulk_modulus"] == {"train": 6, "val": 2, "test": 1}
    with pytest.raises(TrainingError, match="band_gap_mbj has no label in the training part"):
        BatchDataModule(dataset, replace(split(), train=np.array([4])), batch_size=4).check()
    BatchDataModule(dataset, replace(split(), val=np.array([4])), batch_size=4).check()  # the others can select
    gaps = CrystalPropertyDataset(table(), stores, ["band_gap"], SETTINGS)
    BatchDataModule(gaps, split(), batch_size=4).check()
    with pytest.raises(TrainingError, match="the val part is empty"):
        BatchDataModule(gaps, replace(split(), val=VAL[:0]), batch_size=4).check()


def test_pyg_is_imported_only_for_items() -> None:
    source = Path(importlib.import_module("crystrata.datasets.dataset").__file__ or "").read_text()
    assert "\nfrom torch_geometric" not in source
    assert "\nimport torch_geometric" not in source
