"""The search that belongs to some settings. B compositions, n elements, T objectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from crystrata.design.composition_search import CompositionSettings, optimize_composition
from crystrata.design.constraints import Constraints
from crystrata.design.latent_search import LatentSettings, optimize_latent
from crystrata.design.objectives import Objective
from crystrata.design.trained import DesignModel
from crystrata.errors import UsageError


@dataclass(frozen=True)
class SearchResult:
    """Compositions found by a search.

    Attributes:
        weights: Atomic fractions, (B, n).
        latent_values: Predictions from the latents, (B, T); None for a search in compositions.
        decoded_values: Predictions after decoding and encoding them, (B, T).
    """

    weights: np.ndarray
    latent_values: np.ndarray | None = None
    decoded_values: np.ndarray | None = None


def search_compositions(
    model: DesignModel,
    objectives: Sequence[Objective],
    settings: CompositionSettings | LatentSettings,
    *,
    seeds: np.ndarray | None = None,
    constraints: Constraints | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SearchResult:
    """Search by the method of the settings, with the arguments of `optimize_composition` and `optimize_latent`.

    Raises:
        UsageError: Objectives, seeds, constraints or settings contradict each other or do not fit the network.
    """
    if isinstance(settings, CompositionSettings):
        found = optimize_composition(
            model, objectives, seeds=seeds, constraints=constraints, settings=settings, progress=progress
        )
        return SearchResult(found.weights)
    if seeds is None:
        raise UsageError(f"a search in the space {settings.space} starts from known compositions: give seeds")
    latent = optimize_latent(model, objectives, seeds=seeds, settings=settings, progress=progress)
    arrays = (latent.weights, latent.values, latent.decoded_values)
    return SearchResult(*(array.reshape(-1, array.shape[-1]) for array in arrays))
