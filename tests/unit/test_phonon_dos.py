"""Figures of phonon densities of states, by cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from phonon_dos import GAS_CONSTANT, GRID, KELVIN, curves_of, figures, heat_capacity, mean_of_nearest, wasserstein


def peak(*wavenumbers: float) -> np.ndarray:
    """A curve with one full bin at each wavenumber."""
    return np.isin(GRID.round(), wavenumbers).astype(float)[None]


def test_soft_modes_hold_their_share_of_heat_and_stiff_ones_less() -> None:
    limit = 3 * GAS_CONSTANT
    assert heat_capacity(peak(20), 3000.0)[0] == pytest.approx(limit, rel=1e-4)
    x = KELVIN * 600 / 300
    assert heat_capacity(peak(600))[0] == pytest.approx(limit * x**2 * np.exp(x) / (np.exp(x) - 1) ** 2)
    assert heat_capacity(peak(20, 600))[0] == pytest.approx((heat_capacity(peak(20)) + heat_capacity(peak(600)))[0] / 2)


def test_neither_scale_nor_unstable_modes_count_in_the_heat_capacity() -> None:
    np.testing.assert_allclose(heat_capacity(0.1 * peak(200)), heat_capacity(peak(200)))
    np.testing.assert_allclose(heat_capacity(peak(-200, 0, 200)), heat_capacity(peak(200)))
    assert heat_capacity(peak(-200))[0] == 0
    good, unstable = peak(200), peak(-200)
    assert figures(np.vstack([good, good]), np.vstack([good, unstable]))["heat_capacity"] == 0


def test_the_distance_is_that_between_the_peaks() -> None:
    assert wasserstein(peak(100), 0.3 * peak(220))[0] == pytest.approx(120)
    assert wasserstein(peak(-100, 100), peak(100))[0] == pytest.approx(100)
    assert wasserstein(peak(100) - peak(500), peak(100))[0] == 0  # what is below 0 is no state
    assert np.isfinite(wasserstein(np.zeros((1, 66)), peak(100))[0])


def test_figures_are_means() -> None:
    found = figures(np.vstack([peak(100), peak(100)]), np.vstack([peak(100), peak(140)]))
    assert found["mae"] == pytest.approx(2 / 132)
    assert found["wasserstein"] == pytest.approx(20)


def test_the_mean_curve_of_the_nearest() -> None:
    known, curves = np.array([[0.0], [1.0], [5.0]]), np.vstack([peak(20), peak(40), peak(60)])
    np.testing.assert_array_equal(mean_of_nearest(np.array([[0.1]]), known, curves, 1), peak(20))
    np.testing.assert_array_equal(mean_of_nearest(np.array([[0.1]]), known, curves, 2), (peak(20) + peak(40)) / 2)


def test_predictions_become_curves_in_the_order_asked() -> None:
    table = pd.DataFrame({"key": ["b", "b", "a", "a"], "t": [2.0, 1.0, 1.0, 2.0], "pred": [4.0, 3.0, 1.0, 2.0]})
    np.testing.assert_array_equal(curves_of(table, ["b", "a"]), [[3, 4], [1, 2]])
