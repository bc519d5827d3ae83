"""One search for recipes, of whichever kind its settings are. B recipes, n elements, T objectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from crystrata.design.composition_search import CompositionSettings, optimize_composition
from crystrata.design.constraints import Constraints
from crystrata.design.latent_search import LatentSettings, optimize_latent
from crystrata.design.model import DesignModel
from crystrata.design.objectives import Objective
from crystrata.errors import UsageError


@dataclass(frozen=True)
class Found:
    """Recipes that a search found.

    Attributes:
        weights: Atomic fractions, (B, n).
        latent_values: What a search of latents promises before there is a recipe, (B, T); None of compositions.
        decoded_values: After decoding that and encoding again, (B, T).
    """

    weights: np.ndarray
    latent_values: np.ndarray | None = None
    decoded_values: np.ndarray | None = None


def search_recipes(
    model: DesignModel,
    objectives: Sequence[Objective],
    settings: CompositionSettings | LatentSettings,
    *,
    seeds: np.ndarray | None = None,
    constraints: Constraints | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Search by the method of the settings; arguments as those of `optimize_composition` and `optimize_latent`.

    Raises:
        UsageError: Objectives, seeds, constraints, settings and network contradict each other.
    """
    if isinstance(settings, CompositionSettings):
        found = optimize_composition(
            model, objectives, seeds=seeds, constraints=constraints, settings=settings, progress=progress
        )
        return Found(found.weights)
    if seeds is None:
        raise UsageError(f"a search in the space {settings.space} starts from compositions: give seeds")
    latent = optimize_latent(model, objectives, seeds=seeds, settings=settings, progress=progress)
    parts = (latent.weights, latent.values, latent.decoded_values)
    return Found(*(one.reshape(-1, one.shape[-1]) for one in parts))
