"""Kernel mean descriptor: what a composition is made of, smoothed over the features of its elements; and its inverse.

    x = w K        w: atomic fractions (n,), K: constant kernel matrix (n, D)

The descriptor is linear in the fractions, hence differentiable, and a descriptor can be turned back into a composition.
B compositions, n elements, F features, G grid points, D descriptor width: F G in the 1-D form, n in the other.
"""

from __future__ import annotations

import numpy as np

from crystrata.errors import InputError, unknown_name

FORMS = ("1d", "nd")
GRID = 8  # G = 4 is the least that tells all elements apart in 1-D form; 8 has a condition number of 350

_LEAST_EIGENVALUE = 1e-10  # of K K', as a share of the largest: below it rounding decides about the composition
_TINY = 1e-9  # fractions below are rounding of the solver
_RHO = 1e3  # weight of "fractions add up to 1" beside the largest entry of K


class KernelMeanDescriptor:
    """Descriptor of compositions and its inverse, for one table of element features.

    In the 1-D form every feature is scaled to [0, 1] and seen through G Gaussians at equal distances on that range;
    K[i, (f, k)] is Gaussian k at feature f of element i. In the n-D form features are standardised and K[i, j] is a
    Gaussian of the distance of elements i and j. `matrix` is K, (n, D) float64, read-only; `weights @ matrix` is the
    descriptor in any array library. An InputError if different compositions would have the same.

    Args:
        features: (n, F) without gaps and constant columns.
        form: `1d` or `nd`.
        sigma: Width of the Gaussians in scaled features, exp(-d^2 / (2 sigma^2)). Default: exp(-d^2 / s^2), with s the
            distance of grid points in the 1-D form, and s^2 the median squared distance to the nearest element in the
            n-D form.
        grid: G, 2 or more; without meaning in the n-D form.
    """

    def __init__(self, features: np.ndarray, *, form: str = "1d", sigma: float | None = None, grid: int = GRID) -> None:
        if form not in FORMS:
            raise unknown_name("form of the kernel mean descriptor", form, FORMS)
        if sigma is not None and not 0 < sigma < np.inf:
            raise InputError(f"sigma must be above 0 and finite, not {sigma}")
        if grid < 2:
            raise InputError(f"the grid needs 2 points or more, not {grid}")
        features = _checked_features(features)
        self.matrix = _kernel_1d(features, sigma, grid) if form == "1d" else _kernel_nd(features, sigma)
        _check_unique(self.matrix)
        self.matrix.setflags(write=False)

    def transform(self, weights: np.ndarray) -> np.ndarray:
        """Return descriptors (B, D) or (D,) of atomic fractions (B, n) or (n,); an InputError for other shapes."""
        weights = np.asarray(weights)
        if weights.ndim not in (1, 2) or weights.shape[-1] != len(self.matrix):
            raise InputError(f"fractions must be (B, {len(self.matrix)}), not {weights.shape}")
        return weights @ self.matrix

    def inverse(self, descriptors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the compositions whose descriptors are nearest: min |w K - z| with w >= 0, sum w = 1; each is unique.

        Non-negative least squares on K' reduced to a triangle, with the sum as a heavy row. Of z, (B, D) or (D,):
        atomic fractions (B, n) or (n,), and residuals |w K - z|, (B,) or (), how far each z is from any composition. An
        InputError if the width is not D, or a number is not finite.
        """
        from scipy.optimize import nnls

        z = np.asarray(descriptors, dtype=np.float64)
        if z.ndim not in (1, 2) or z.shape[-1] != self.matrix.shape[1] or not np.isfinite(z).all():
            raise InputError(f"descriptors must be finite numbers (B, {self.matrix.shape[1]}), not {z.shape}")
        rows = np.atleast_2d(z)
        basis, triangle = np.linalg.qr(self.matrix.T)
        rho = _RHO * np.abs(self.matrix).max()
        system = np.vstack([triangle, np.full((1, triangle.shape[1]), rho)])
        found = np.array([nnls(system, np.append(row, rho))[0] for row in rows @ basis]).reshape(-1, len(self.matrix))
        found /= found.sum(axis=1, keepdims=True)
        found[found < _TINY] = 0.0
        found /= found.sum(axis=1, keepdims=True)
        residual = np.linalg.norm(found @ self.matrix - rows, axis=1)
        return found.reshape(*z.shape[:-1], len(self.matrix)), residual.reshape(z.shape[:-1])


def _checked_features(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < 2 or not features.size or not np.isfinite(features).all():
        raise InputError(f"element features must be finite numbers (n, F) of 2 elements or more, not {features.shape}")
    constant = np.flatnonzero(np.ptp(features, axis=0) == 0)
    if len(constant):
        raise InputError(f"feature columns {constant.tolist()} are constant: they tell no elements apart, drop them")
    return features


def _kernel_1d(features: np.ndarray, sigma: float | None, grid: int) -> np.ndarray:
    """Return K (n, F G) of the 1-D form."""
    scaled = (features - features.min(axis=0)) / np.ptp(features, axis=0)
    points = np.linspace(0.0, 1.0, grid)
    width = points[1] ** 2 if sigma is None else 2 * sigma**2
    return np.exp(-((scaled[:, :, None] - points) ** 2) / width).reshape(len(features), -1)


def _kernel_nd(features: np.ndarray, sigma: float | None) -> np.ndarray:
    """Return K (n, n) of the n-D form."""
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    squared = ((scaled[:, None] - scaled) ** 2).sum(axis=-1)
    if sigma is not None:
        return np.exp(-squared / (2 * sigma**2))
    nearest = (squared + np.diag(np.full(len(squared), np.inf))).min(axis=1)
    if not nearest.all():
        raise InputError(
            f"elements {np.flatnonzero(nearest == 0).tolist()} have the same features: "
            "drop duplicate rows, or give sigma"
        )
    return np.exp(-squared / np.median(nearest))


def _check_unique(matrix: np.ndarray) -> None:
    """Refuse a kernel that gives different compositions the same descriptor: K K' must be positive definite."""
    eigenvalues = np.linalg.eigvalsh(matrix @ matrix.T)
    if not eigenvalues[0] > _LEAST_EIGENVALUE * eigenvalues[-1]:
        raise InputError(
            f"different compositions would have the same descriptor (eigenvalues of K K' from {eigenvalues[0]:.2g} to "
            f"{eigenvalues[-1]:.2g}): use more grid points, a smaller sigma, or look for elements with equal features"
        )
