"""Intervals by split-conformal prediction: how far labels lay from predictions on crystals that were not trained on.

The score of a calibration crystal is its error over its difficulty (Lei et al. 2018, section 5.2; Papadopoulos 2008),
and the score that a share `level` of them does not exceed, times the difficulty of a new crystal, is half the width of
its interval. n calibration materials, m crystals predicted, d latent width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from crystrata.errors import UsageError
from crystrata.networks.nearest import nearest
from crystrata.tasks import Task

LEAST_LABELS = 20
"""Calibration labels below which a property has no interval."""

LEAST_OF_GROUP = 100
"""Calibration labels that metals and non-metals must each have to be judged apart."""

_NEIGHBOURS = 30
_PRIOR = 10  # neighbours that the mean error of all crystals counts for
_CAP = 0.95  # quantile of the errors above which they tell of the label rather than of the neighbourhood
_LEAST_DIFFICULTY = 1e-12

Bounds = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ConformalIntervals:
    """What the errors of one network on its calibration materials say about other crystals.

    The difficulty of a crystal is the mean error of the calibration materials that are nearest to it in latent space,
    shrunk towards the mean of all, times 1 + its distance from the training materials. Metals and non-metals have
    quantiles of their own where both are many: the gap of a metal is mostly certain, that of a semiconductor is not.

    Attributes:
        latents: Of the calibration materials, (n, d).
        metal: Whether their predicted gap is zero, (n,).
        errors: Task -> capped absolute error of each (n,), in its unit, NaN where no label is known.
        scores: Task -> absolute error over difficulty (n,).
    """

    latents: np.ndarray
    metal: np.ndarray
    errors: dict[str, np.ndarray]
    scores: dict[str, np.ndarray]

    @classmethod
    def fit(
        cls, latents: np.ndarray, distance: np.ndarray, metal: np.ndarray, residuals: Mapping[str, np.ndarray]
    ) -> ConformalIntervals:
        """Calibrate on crystals that were not trained on; a property with few labels is left out.

        Args:
            latents: (n, d).
            distance: From the training materials, (n,); see `Domain.distance`.
            metal: Whether the predicted gap is zero, (n,).
            residuals: Task -> label minus prediction (n,), NaN where no label is known.
        """
        errors = {name: np.abs(one) for name, one in residuals.items() if np.isfinite(one).sum() >= LEAST_LABELS}
        capped = {name: np.minimum(error, np.nanquantile(error, _CAP)) for name, error in errors.items()}
        latents = latents.astype(np.float16)
        scores = {}
        for known, names in _by_labels(capped):
            neighbours, _ = nearest(latents[known], latents[known], _count(known), themselves=True)
            for name in names:
                difficulty = _difficulty(capped[name][known], neighbours, distance[known])
                scores[name] = np.full(len(latents), np.nan, dtype=np.float32)
                scores[name][known] = errors[name][known] / difficulty
        return cls(latents, metal, {name: one.astype(np.float32) for name, one in capped.items()}, scores)

    @property
    def properties(self) -> tuple[str, ...]:
        """Properties that have an interval."""
        return tuple(self.errors)

    def bounds(
        self, tasks: Sequence[Task], values: Mapping[str, np.ndarray], latents: np.ndarray, distance: np.ndarray,
        metal: np.ndarray, level: float,
    ) -> dict[str, Bounds]:  # fmt: skip
        """Return the ends of the intervals, task -> low (m,) and high (m,), of the tasks that have one.

        They are NaN where the calibration materials are too few for the level. No end is below the physical bound.

        Args:
            tasks: What is predicted; their physical bounds are read from here.
            values: Task -> predictions (m,).
            latents: (m, d).
            distance: From the training materials, (m,).
            metal: Whether the predicted gap is zero, (m,).
            level: Share of the labels that the intervals are to cover, between 0 and 1.
        """
        if not 0 < level < 1:
            raise UsageError(f"the level of an interval is between 0 and 1, not {level}")
        found, lowest = {}, {task.name: task.lower for task in tasks}
        for known, names in _by_labels({name: one for name, one in self.errors.items() if name in values}):
            neighbours, _ = nearest(latents, self.latents[known], _count(known))
            for name in names:
                difficulty = _difficulty(self.errors[name][known], neighbours, distance)
                half = self._quantiles(name, known, metal, level) * difficulty
                lower = lowest.get(name)
                low = values[name] - half
                found[name] = (low if lower is None else np.maximum(low, lower), values[name] + half)
        return {name: found[name] for name in values if name in found}

    def _quantiles(self, name: str, known: np.ndarray, metal: np.ndarray, level: float) -> np.ndarray:
        """Return the quantile of the scores that is valid for each crystal, (m,)."""
        scores, metals = self.scores[name][known], self.metal[known]
        if min(metals.sum(), (~metals).sum()) < LEAST_OF_GROUP:
            return np.full(len(metal), conformal_quantile(scores, level))
        return np.where(metal, *(conformal_quantile(scores[group], level) for group in (metals, ~metals)))


def conformal_quantile(scores: np.ndarray, level: float) -> float:
    """Return the smallest score that covers a new one with at least the probability `level`; NaN if none does.

    It is the ceil((n + 1) level)-th of n scores: the place of a new score among them is uniform.
    """
    rank = ceil((len(scores) + 1) * level - 1e-9)
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else float("nan")


def predicted_metals(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return whether the predicted gap is zero, (m,); none is a metal where no gap is predicted."""
    gap = next((values[name] for name in ("band_gap", "band_gap_mbj") if name in values), None)
    return np.zeros(len(next(iter(values.values()))), dtype=bool) if gap is None else gap <= 0


def _by_labels(errors: Mapping[str, np.ndarray]) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Yield the rows of the known labels, (n',), and the properties that share them: so they share the neighbours."""
    groups: dict[bytes, list[str]] = {}
    for name, error in errors.items():
        groups.setdefault(np.isfinite(error).tobytes(), []).append(name)
    for mask, names in groups.items():
        yield np.flatnonzero(np.frombuffer(mask, dtype=bool)), names


def _count(known: np.ndarray) -> int:
    return min(_NEIGHBOURS, len(known) // 4)


def _difficulty(errors: np.ndarray, neighbours: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return the expected size of the error (m,) from the errors (n',) of the neighbours (m, k)."""
    near = (errors[neighbours].sum(axis=1) + _PRIOR * errors.mean()) / (neighbours.shape[1] + _PRIOR)
    return np.maximum(near * (1 + distance), _LEAST_DIFFICULTY)
