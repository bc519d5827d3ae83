"""Intervals keep their promise on exchangeable data, and say nothing where too little is known."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest

from crystrata.errors import UsageError
from crystrata.jarvis_properties import properties
from crystrata.networks.nearest import nearest
from crystrata.prediction.intervals import (
    LEAST_LABELS,
    ConformalIntervals,
    conformal_quantile,
    predicted_metals,
)

WIDTH = 8


def synthetic(rng: np.random.Generator, n: int, gap_error: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents (n, 8), whether a metal (n,), and errors (n,) that grow along the first axis, smaller for metals."""
    latents, metal = rng.normal(size=(n, WIDTH)), rng.random(n) < 0.6
    errors = rng.standard_t(3, size=n) * np.exp(latents[:, 0]) * np.where(metal, 0.1, gap_error)
    return latents, metal, errors


def fitted(
    latents: np.ndarray, metal: np.ndarray, errors: np.ndarray, name: str = "formation_energy"
) -> ConformalIntervals:
    return ConformalIntervals.fit(latents, np.zeros(len(latents)), metal, {name: errors})


def bounds(
    made: ConformalIntervals, latents: np.ndarray, metal: np.ndarray, level: float, name: str = "formation_energy"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the intervals around predictions of zero."""
    zero = np.zeros(len(latents))
    return made.bounds(properties([name]), {name: zero}, latents, zero, metal, level)[name]


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_coverage_is_the_level_for_all_and_for_each_group(level: float) -> None:
    """Over 60 draws of 600 calibration and 400 new crystals: the mean coverage within four standard errors."""
    rng, shares = np.random.default_rng(1), []
    for _ in range(60):
        (latents, metal, errors), (new, new_metal, truth) = synthetic(rng, 600), synthetic(rng, 400)
        low, high = bounds(fitted(latents, metal, errors), new, new_metal, level)
        within = (truth >= low) & (truth <= high)
        shares.append([within.mean(), within[new_metal].mean(), within[~new_metal].mean()])
    for found in np.transpose(shares):
        assert found.mean() == pytest.approx(level, abs=4 * found.std() / 60**0.5 + 1 / 200)


def test_one_group_for_all_would_not_hold_for_each() -> None:
    """The synthetic groups differ so much that the test above can fail: without groups semiconductors are missed."""
    rng = np.random.default_rng(2)
    (latents, metal, errors), (new, new_metal, truth) = synthetic(rng, 600), synthetic(rng, 2000)
    blind = fitted(latents, np.zeros_like(metal), errors)
    low, high = bounds(blind, new, np.zeros_like(new_metal), 0.8)
    assert ((truth >= low) & (truth <= high))[~new_metal].mean() < 0.72


def test_the_difficulty_narrows_intervals_at_equal_coverage() -> None:
    rng = np.random.default_rng(3)
    latents, metal, errors = synthetic(rng, 3000, 0.1)
    new, new_metal, truth = synthetic(rng, 3000, 0.1)
    low, high = bounds(fitted(latents, metal, errors), new, new_metal, 0.9)
    constant = conformal_quantile(np.abs(errors), 0.9)
    assert np.mean((truth >= low) & (truth <= high)) == pytest.approx(np.mean(np.abs(truth) <= constant), abs=0.02)
    assert (high - low).mean() < 0.9 * 2 * constant
    hard = new[:, 0] > 1
    assert np.median((high - low)[hard]) > 2 * np.median((high - low)[new[:, 0] < -1])


def test_intervals_are_wider_for_a_higher_level_and_farther_away() -> None:
    latents, metal, errors = synthetic(np.random.default_rng(4), 500)
    made, zero = fitted(latents, metal, errors), np.zeros(10)
    widths = [np.diff(bounds(made, latents[:10], metal[:10], level), axis=0) for level in (0.5, 0.8, 0.9)]
    assert (np.diff(np.concatenate(widths), axis=0) > 0).all()
    far = made.bounds((), {"formation_energy": zero}, latents[:10], zero + 2, metal[:10], 0.9)["formation_energy"]
    np.testing.assert_allclose(np.diff(far, axis=0)[0], 3 * widths[2][0])


@pytest.mark.parametrize(("n", "level", "rank"), [(9, 0.9, 9), (99, 0.9, 90), (19, 0.95, 19), (100, 0.9, 91)])
def test_the_quantile_counts_the_new_crystal(n: int, level: float, rank: int) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert conformal_quantile(scores, level) == rank


def test_a_level_that_the_labels_cannot_tell_has_no_interval() -> None:
    assert isnan(conformal_quantile(np.arange(18.0), 0.95))
    latents, metal, errors = synthetic(np.random.default_rng(5), LEAST_LABELS)
    made = fitted(latents, metal, errors)
    assert np.isfinite(bounds(made, latents, metal, 0.95)).all()
    assert np.isnan(bounds(made, latents, metal, 0.99)).all()


def test_a_property_with_few_labels_is_left_out() -> None:
    latents, metal, errors = synthetic(np.random.default_rng(6), 60)
    few = np.where(np.arange(60) < LEAST_LABELS - 1, errors, np.nan)
    nothing = np.full(60, np.nan)
    made = ConformalIntervals.fit(latents, np.zeros(60), metal, {"spillage": few, "ehull": nothing, "band_gap": errors})
    assert made.properties == ("band_gap",)
    values = {name: np.zeros(60) for name in ("spillage", "band_gap")}
    assert set(made.bounds((), values, latents, np.zeros(60), metal, 0.9)) == {"band_gap"}
    assert ConformalIntervals.fit(latents, np.zeros(60), metal, {"ehull": nothing}).properties == ()


def test_small_groups_are_judged_together() -> None:
    latents, metal, errors = synthetic(np.random.default_rng(7), 150)
    made = fitted(latents, metal, errors)
    assert np.array_equal(bounds(made, latents, metal, 0.9), bounds(made, latents, ~metal, 0.9))
    latents, metal, errors = synthetic(np.random.default_rng(7), 900)
    made = fitted(latents, metal, errors)
    assert not np.array_equal(bounds(made, latents, metal, 0.9), bounds(made, latents, ~metal, 0.9))


def test_a_calibration_crystal_does_not_judge_itself() -> None:
    """One crystal of a tight cluster is wrong: its own difficulty knows nothing of that."""
    latents = np.random.default_rng(8).normal(size=(200, WIDTH))
    errors = np.full(200, 0.1)
    errors[17] = 50.0
    made = fitted(latents, np.zeros(200, dtype=bool), errors)
    assert made.scores["formation_energy"][17] == pytest.approx(50 / 0.1, rel=1e-3)
    assert np.delete(made.scores["formation_energy"], 17).max() == pytest.approx(1, rel=1e-3)


def test_no_end_is_below_the_physical_bound_and_perfect_predictions_have_no_width() -> None:
    latents, metal, errors = synthetic(np.random.default_rng(9), 400)
    low, high = bounds(fitted(latents, metal, errors, "band_gap"), latents, metal, 0.9, "band_gap")
    assert (low == 0).all()
    assert (high > 0).all()
    low, high = bounds(fitted(latents, metal, 0 * errors), latents, metal, 0.9)
    assert (low == 0).all()
    assert (high == 0).all()


def test_neighbours_are_those_of_a_plain_search() -> None:
    rng = np.random.default_rng(10)
    points, known = rng.normal(size=(1203, 5)), rng.normal(size=(40, 5))
    rows, distances = nearest(points, known, 7)
    plain = np.linalg.norm(points[:, None] - known, axis=2)
    assert np.array_equal(np.sort(rows, axis=1), np.sort(np.argsort(plain, axis=1)[:, :7], axis=1))
    np.testing.assert_allclose(distances, np.take_along_axis(plain, rows, axis=1), atol=1e-9)
    rows, _ = nearest(points, points, 3, themselves=True)
    assert not (rows == np.arange(1203)[:, None]).any()


def test_metals_are_told_by_the_gap() -> None:
    gap, energy = np.array([0.0, 0.3]), np.array([-1.0, 1.0])
    assert predicted_metals({"formation_energy": energy, "band_gap": gap}).tolist() == [True, False]
    assert predicted_metals({"band_gap_mbj": gap}).tolist() == [True, False]
    assert predicted_metals({"formation_energy": energy}).tolist() == [False, False]


@pytest.mark.parametrize("level", [0, 1, -0.1, 90])
def test_a_level_is_a_share(level: float) -> None:
    latents, metal, errors = synthetic(np.random.default_rng(11), 50)
    with pytest.raises(UsageError, match="between 0 and 1"):
        bounds(fitted(latents, metal, errors), latents, metal, level)


@pytest.mark.parametrize(
    ("n", "level", "rank"), [(9, 0.9, 9), (19, 0.9, 18), (99, 0.9, 90), (1, 0.5, 1), (8, 0.9, None)]
)
def test_the_quantile_is_the_score_of_its_rank(n: int, level: float, rank: int | None) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    found = conformal_quantile(scores, level)
    assert np.isnan(found) if rank is None else found == rank
