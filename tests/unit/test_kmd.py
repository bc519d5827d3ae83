"""Kernel mean descriptor: by hand, linear, permuted with its elements, and turned back into compositions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compositions import projected, projected_gradient
from crystrata.compositions.element_features import load_element_features
from crystrata.compositions.keys import weights
from crystrata.compositions.kmd import FORMS, KernelMeanDescriptor
from crystrata.errors import CrystrataError, InputError

FEATURES = load_element_features().values
KERNELS = {form: KernelMeanDescriptor(FEATURES, form=form) for form in FORMS}
RECIPES = weights(
    ["Fe2O3", "AsGa", "Ne", "BaCa2Cu3Hg0.8O8.2Tl0.2", "ErHo", "Li0.0001CoO2", "FmMdNoLr", "CCo2CrFeMnNi3"]
)

compositions = st.dictionaries(st.integers(0, 102), st.floats(0.01, 1), min_size=1, max_size=9)


def row_of(amounts: dict[int, float]) -> np.ndarray:
    """Atomic fractions (103,) of amounts by column."""
    row = np.zeros(103)
    row[list(amounts)] = list(amounts.values())
    return row / row.sum()


def test_one_dimensional_form_by_hand() -> None:
    features = np.array([[0.0, 5.0], [1.0, 1.0], [3.0, 3.0]])
    kernel = KernelMeanDescriptor(features, grid=3)
    scaled, points = np.array([[0, 1], [1 / 3, 0], [1, 0.5]]), [0, 0.5, 1]
    expected = [[np.exp(-((x - g) ** 2) / 0.5**2) for x in row for g in points] for row in scaled]
    np.testing.assert_allclose(kernel.matrix, expected, rtol=1e-14)
    given_width = KernelMeanDescriptor(features, grid=3, sigma=0.2)
    expected = [[np.exp(-((x - g) ** 2) / (2 * 0.2**2)) for x in row for g in points] for row in scaled]
    np.testing.assert_allclose(given_width.matrix, expected, rtol=1e-14)
    np.testing.assert_allclose(kernel.transform(np.array([0.5, 0.5, 0])), kernel.matrix[:2].mean(axis=0))


def test_n_dimensional_form_by_hand() -> None:
    features = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0], [5.0, 4.0]])
    scaled = (features - features.mean(0)) / features.std(0)
    squared = np.array([[((a - b) ** 2).sum() for b in scaled] for a in scaled])
    nearest = [min(squared[i][j] for j in range(4) if j != i) for i in range(4)]
    found = KernelMeanDescriptor(features, form="nd").matrix
    np.testing.assert_allclose(found, np.exp(-squared / np.median(nearest)), rtol=1e-12)
    found = KernelMeanDescriptor(features, form="nd", sigma=0.7).matrix
    np.testing.assert_allclose(found, np.exp(-squared / (2 * 0.7**2)), rtol=1e-12)


@pytest.mark.parametrize("grid", [5, 8, 12])
def test_shapes(grid: int) -> None:
    kernel = KernelMeanDescriptor(FEATURES, grid=grid)
    assert kernel.matrix.shape == (103, FEATURES.shape[1] * grid)
    assert kernel.transform(RECIPES).shape == (len(RECIPES), FEATURES.shape[1] * grid)
    assert kernel.transform(RECIPES[0]).shape == (FEATURES.shape[1] * grid,)
    assert KERNELS["nd"].matrix.shape == (103, 103)


@pytest.mark.parametrize("form", FORMS)
def test_elements_may_be_permuted(form: str) -> None:
    order = np.random.default_rng(0).permutation(103)
    permuted = KernelMeanDescriptor(FEATURES[order], form=form)
    found = permuted.transform(RECIPES[:, order])
    expected = KERNELS[form].transform(RECIPES)
    np.testing.assert_allclose(found, expected if form == "1d" else expected[:, order], atol=1e-12)
    np.testing.assert_allclose(permuted.inverse(found)[0], RECIPES[:, order], atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_the_matrix(form: str) -> None:
    import torch

    matrix = torch.tensor(KERNELS[form].matrix)
    fractions = torch.tensor(RECIPES[0], requires_grad=True)
    found = torch.autograd.functional.jacobian(lambda w: w @ matrix, fractions)
    torch.testing.assert_close(found, matrix.T)
    step = np.zeros(103)
    step[7] = 0.1
    moved = KERNELS[form].transform(RECIPES[0] + step) - KERNELS[form].transform(RECIPES[0])
    np.testing.assert_allclose(moved, 0.1 * KERNELS[form].matrix[7], atol=1e-12)


@given(st.lists(compositions, min_size=1, max_size=4), st.sampled_from(FORMS))
def test_recipes_come_back(amounts: list[dict[int, float]], form: str) -> None:
    fractions = np.array([row_of(one) for one in amounts])
    found, residual = KERNELS[form].inverse(KERNELS[form].transform(fractions))
    np.testing.assert_allclose(found, fractions, atol=1e-6)
    np.testing.assert_array_equal(found > 0, fractions > 0)  # rounded to zero, not nearly zero
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)
    assert residual.shape == (len(amounts),)
    assert residual.max() < 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_single_precision_comes_back(form: str) -> None:
    found, residual = KERNELS[form].inverse(KERNELS[form].transform(RECIPES).astype(np.float32))
    np.testing.assert_allclose(found, RECIPES, atol=1e-4)
    assert residual.max() < 1e-4


def test_one_row_is_as_a_batch_of_one() -> None:
    descriptor = KERNELS["1d"].transform(RECIPES)
    one, residual = KERNELS["1d"].inverse(descriptor[3])
    assert one.shape == (103,)
    assert residual.shape == ()
    np.testing.assert_allclose(one, KERNELS["1d"].inverse(descriptor)[0][3], atol=1e-12)
    nothing, none_left = KERNELS["1d"].inverse(descriptor[:0])
    assert (nothing.shape, none_left.shape) == ((0, 103), (0,))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("noise", [0.05, 1.0])
def test_what_is_no_composition_gives_the_nearest_one(form: str, noise: float) -> None:
    kernel = KERNELS[form]
    exact = kernel.transform(RECIPES)
    given = exact + noise * np.random.default_rng(0).normal(size=exact.shape)
    found, residual = kernel.inverse(given)
    other = projected_gradient(kernel.matrix, given)
    np.testing.assert_allclose(found, other, atol=2e-5)
    np.testing.assert_allclose(residual, np.linalg.norm(found @ kernel.matrix - given, axis=1), rtol=1e-9)
    assert (residual <= np.linalg.norm(other @ kernel.matrix - given, axis=1) + 1e-6).all()
    assert (residual < np.linalg.norm(exact - given, axis=1)).all()


def test_projection_gives_the_nearest_point_of_the_simplex() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 4)) * 3
    found = projected(rows)
    np.testing.assert_allclose(found.sum(1), 1.0)
    corners = np.random.default_rng(1).dirichlet(np.full(4, 0.3), size=500)
    distances = np.linalg.norm(corners[None] - rows[:, None], axis=-1)
    assert (np.linalg.norm(found - rows, axis=1)[:, None] <= distances + 1e-12).all()
    assert found.min() >= 0


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"grid": 1}, "2 points"),
        ({"sigma": 0.0}, "sigma must be above 0"),
        ({"sigma": float("nan")}, "sigma must be above 0"),
        ({"form": "2d"}, "unknown form .*'2d'"),
        ({"grid": 2}, "more grid points, a smaller sigma"),
        ({"sigma": 3.0}, "more grid points, a smaller sigma"),
        ({"form": "nd", "sigma": 100.0}, "a smaller sigma"),
    ],
)
def test_bad_settings_are_refused_with_advice(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(CrystrataError, match=complaint):
        KernelMeanDescriptor(FEATURES, **settings)  # type: ignore[arg-type]


def test_bad_features_are_refused() -> None:
    twins = FEATURES.copy()
    twins[5] = twins[9]
    with pytest.raises(InputError, match=r"elements \[5, 9\] have the same features"):
        KernelMeanDescriptor(twins, form="nd")
    for form in FORMS:
        with pytest.raises(InputError, match="equal features"):
            KernelMeanDescriptor(twins, form=form, sigma=0.1)
    constant = FEATURES.copy()
    constant[:, 3] = 7.0
    gap = FEATURES.copy()
    gap[0, 0] = np.nan
    for features, complaint in ((constant, r"\[3\] are constant"), (gap, "finite"), (FEATURES[0], "finite")):
        with pytest.raises(InputError, match=complaint):
            KernelMeanDescriptor(features)


def test_bad_arrays_are_refused() -> None:
    kernel = KERNELS["1d"]
    with pytest.raises(InputError, match="fractions must be"):
        kernel.transform(RECIPES[:, :94])
    for wrong in (np.zeros((2, 5)), np.zeros((1, 1, kernel.matrix.shape[1])), np.full(kernel.matrix.shape[1], np.nan)):
        with pytest.raises(InputError, match="descriptors must be finite"):
            kernel.inverse(wrong)
    with pytest.raises(ValueError, match="read-only"):
        kernel.matrix[0, 0] = 1.0
