"""The outlier check: what it masks in training, what it only reports, and that missing labels do not blind it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crystrata.datasets.outliers import COLUMNS, OutlierCheck, check_outliers, robust_scores
from crystrata.datasets.splits import Split
from crystrata.jarvis_properties import PROPERTIES, get_property, properties
from crystrata.networks.scaling import Scaling
from crystrata.reports.metrics import property_metrics

N = 300


def ordinary(name: str, seed: int = 0) -> np.ndarray:
    """Return unsuspicious labels of a property, (N,)."""
    draw = np.random.default_rng(seed)
    if name == "formation_energy":
        return draw.normal(-1.0, 0.8, N).clip(-3, 2)
    scale = {"band_gap": 0.5, "spillage": 0.1}.get(name, 10.0)
    return draw.gamma(4.0, scale, N).clip(1.0 if name == "dielectric" else 0.0)


def split() -> Split:
    return Split(np.arange(0, 200), np.arange(200, 250), np.arange(250, 290), "random", 0)  # 10 rows are in no part


def check(name: str, labels: np.ndarray, *, limit: float = 8.0, mask: bool = True) -> OutlierCheck:
    return check_outliers(
        properties([name]), {name: labels}, split(), [f"id-{row}" for row in range(N)], limit=limit, mask=mask
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("band_gap", -0.2, "below the physical bound 0"),
        ("bulk_modulus", -5.0, "below the physical bound 0"),
        ("dielectric", 0.4, "below the physical bound 1"),
        ("formation_energy", 16.0, "outside [-5, 5]"),
        ("bulk_modulus", 1900.0, "outside [0, 600]"),
        ("spillage", 3.9, "z above 8"),
    ],
)
def test_a_label_that_cannot_be_right_is_masked_in_training_alone(name: str, value: float, words: str) -> None:
    labels = ordinary(name)
    rows = [7, 210, 260, 295]  # training, validation, test, no part
    labels[rows] = value
    found = check(name, labels)
    assert np.flatnonzero(found.masked[name]).tolist() == [7]
    assert np.flatnonzero(found.flagged[name]).tolist() == [7, 210, 260]
    assert found.table["key"].tolist() == ["id-7", "id-210", "id-260"]
    assert found.table["split"].tolist() == ["train", "val", "test"]
    assert found.table["action"].tolist() == ["masked", "kept", "kept"]
    assert found.table["value"].tolist() == [value] * 3
    assert all(words in reason for reason in found.table["reason"])


def test_a_plausible_extreme_is_reported_but_trained_on() -> None:
    labels = ordinary("bulk_modulus") * 8  # broad enough that z stays small
    labels[3] = 700.0
    found = check("bulk_modulus", labels)
    row = found.table[found.table["key"] == "id-3"].iloc[0]
    assert row["reason"] == "outside [0, 600]"
    assert row["action"] == "kept"
    assert not found.masked["bulk_modulus"].any()


@pytest.mark.parametrize("name", ["bulk_modulus", "shear_modulus"])
def test_the_modulus_of_diamond_is_no_outlier(name: str) -> None:
    labels = ordinary(name)
    labels[[3, 4, 210]] = [520.0, 900.0, 900.0]
    assert robust_scores(labels, split().train, get_property(name))[3] > 20
    found = check(name, labels).table
    assert found["key"].tolist() == ["id-4", "id-210"]
    assert found["action"].tolist() == ["masked", "kept"]
    assert set(found["reason"]) == {"outside [0, 600]; z above 8"}


def test_only_the_one_label_is_masked_and_the_crystal_stays() -> None:
    values = {name: ordinary(name) for name in ("formation_energy", "bulk_modulus")}
    values["bulk_modulus"][5] = -40.0
    found = check_outliers(properties(list(values)), values, split(), [str(row) for row in range(N)], limit=8.0)
    assert np.flatnonzero(found.masked["bulk_modulus"]).tolist() == [5]
    assert not found.masked["formation_energy"].any()
    assert not found.flagged["formation_energy"].any()


def test_unknown_labels_neither_blind_the_statistics_nor_are_flagged() -> None:
    labels = ordinary("bulk_modulus")
    labels[np.random.default_rng(1).random(N) < 0.7] = np.nan
    labels[[11, 255]] = 700.0
    found = check("bulk_modulus", labels)
    assert set(found.table["key"]) == {"id-11", "id-255"}
    assert np.isfinite(found.table["score"]).all()
    assert not found.flagged["bulk_modulus"][np.isnan(labels)].any()


def test_the_statistics_come_from_the_training_part() -> None:
    labels = ordinary("spillage")
    scores = robust_scores(labels, split().train, get_property("spillage"))
    other = labels.copy()
    other[200:] = 3.0  # wild values outside the training part change no score inside it
    np.testing.assert_array_equal(robust_scores(other, split().train, get_property("spillage"))[:200], scores[:200])
    train = labels[:200]
    mad = np.median(np.abs(train - np.median(train)))
    np.testing.assert_allclose(scores, 0.6745 * np.abs(labels - np.median(train)) / mad)


def test_scores_are_taken_on_the_scale_that_the_network_learns_on() -> None:
    record = get_property("piezoelectric")
    labels = ordinary("piezoelectric")[:201]  # odd: both medians are the middle value
    scaling = Scaling(record.transform, centre="median")
    scaling.fit(torch.from_numpy(labels), torch.ones(len(labels), dtype=torch.bool))
    value = np.arcsinh(labels / float(scaling.transform_scale))
    expected = 0.6745 * np.abs(value - np.median(value)) / np.median(np.abs(value - np.median(value)))
    np.testing.assert_allclose(robust_scores(labels, np.arange(201), record), expected, rtol=1e-5)


def test_most_labels_zero_is_a_class_and_the_rest_is_not_flagged() -> None:
    gaps = ordinary("band_gap")
    gaps[np.random.default_rng(2).random(N) < 0.7] = 0.0  # metals
    gaps[4] = 9.9  # three times the widest of the others
    found = check("band_gap", gaps)
    assert found.table["key"].tolist() == ["id-4"]
    scores = robust_scores(gaps, split().train, get_property("band_gap"))
    assert (scores[gaps == 0] == 0).all()


@pytest.mark.parametrize("labels", [np.full(N, 2.0), np.full(N, np.nan), np.where(np.arange(N) < 15, 1.0, np.nan)])
def test_a_column_without_spread_or_labels_has_no_score(labels: np.ndarray) -> None:
    found = check("band_gap", labels)
    assert not found.flagged["band_gap"].any()
    assert np.isnan(robust_scores(labels, split().train, get_property("band_gap"))).all()
    assert tuple(found.table.columns) == COLUMNS


def test_no_filter_reports_the_same_and_masks_nothing() -> None:
    labels = ordinary("shear_modulus")
    labels[[2, 3]] = -10.0
    filtered, unfiltered = check("shear_modulus", labels), check("shear_modulus", labels, mask=False)
    assert filtered.masked["shear_modulus"].sum() == 2
    assert not unfiltered.masked["shear_modulus"].any()
    np.testing.assert_array_equal(filtered.flagged["shear_modulus"], unfiltered.flagged["shear_modulus"])
    assert set(unfiltered.table["action"]) == {"kept"}


def test_the_limit_of_z_is_a_choice() -> None:
    labels = ordinary("spillage")
    assert not check("spillage", labels, limit=8.0).flagged["spillage"].any()
    assert check("spillage", labels, limit=2.0).masked["spillage"].any()


def test_a_derived_property_is_reported_by_its_range_and_never_masked() -> None:
    labels = np.abs(ordinary("formation_energy")) * 0.01
    labels[[1, 251]] = 4.0  # far outside [0, 1], and far from the others
    found = check("ehull", labels)
    assert found.table["key"].tolist() == ["id-1", "id-251"]
    assert set(found.table["reason"]) == {"outside [0, 1]"}
    assert not found.masked["ehull"].any()


def test_every_property_states_a_plausible_range() -> None:
    for record in PROPERTIES.values():
        low, high = record.plausible
        assert -np.inf < low < high < np.inf
        assert record.lower is None or low <= record.lower < high


def test_metrics_are_given_with_and_without_flagged_labels() -> None:
    truth, predicted = np.array([1.0, 2.0, np.nan, 9.0]), np.array([1.5, 2.0, 0.0, 3.0])
    metrics = property_metrics(truth, predicted, np.array([1.0, 3.0]), np.array([False, False, True, True]))
    assert metrics is not None
    assert metrics.mae == pytest.approx(6.5 / 3)
    assert (metrics.n, metrics.n_flagged) == (3, 1)
    assert metrics.mae_unflagged == pytest.approx(0.25)
    everything = property_metrics(truth, predicted, np.array([1.0, 3.0]))
    assert everything is not None
    assert (everything.n_flagged, everything.mae_unflagged) == (0, everything.mae)


def test_the_real_labels_lose_few(jarvis_file: object) -> None:
    """On JARVIS-DFT the check takes the negative moduli and the gap of metallic sodium, but no superhard crystal."""
    import pandas as pd

    from crystrata.datasets.labels import column_labels

    table = pd.read_parquet(str(jarvis_file))
    tasks = [task for task in PROPERTIES.values() if not task.derived_from]
    labels = {task.name: column_labels(task, table).numbers for task in tasks}
    everything = Split(np.arange(len(table)), np.array([], int), np.array([], int), "random", 0)
    found = check_outliers(tasks, labels, everything, table["jid"].tolist(), limit=8.0)
    masked = found.table[found.table["action"] == "masked"]
    negative = masked["reason"].str.startswith("below")
    for name, column, count in (("bulk_modulus", "bulk_modulus_kv", 124), ("shear_modulus", "shear_modulus_gv", 1142)):
        assert (masked[negative]["property"] == name).sum() == (table[column] < 0).sum() == count
    assert masked[~negative].groupby("property").size().to_dict() == {"band_gap_mbj": 8, "spillage": 8}
    assert not ((found.table["property"] == "shear_modulus") & (found.table["value"] > 0)).any()  # diamond is real
    sodium = table[(table["formula"] == "Na") & (table["mbj_bandgap"] > 20)]["jid"]
    assert set(sodium) <= set(masked["key"])
    assert len(sodium)
