"""Search for latents, or descriptors, and for the compositions nearest to them.

B seeds, R restarts of each, n elements, D descriptor width, d latent width, T objectives, S steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from crystrata.design.composition_search import seed_fractions
from crystrata.design.objectives import Objective, ObjectiveFunction
from crystrata.design.trained import DesignModel, frozen
from crystrata.errors import UsageError, unknown_name

Space = Literal["latent", "input"]
SPACES: tuple[Space, ...] = ("latent", "input")


@dataclass(frozen=True)
class LatentSettings:
    """How latents are searched.

    Attributes:
        space: `latent` moves the latent and needs the autoencoder; `input` moves the descriptor.
        ae_align_scale: Weight of the distance between a latent and its decoded and re-encoded self; with 0, it may
            drift to where there are no descriptors.
        steps: Steps of Adam.
        lr: Learning rate.
        restarts: R, searches from each seed.
        noise: Standard deviation of the start around the seed; the first search of each seed starts at the seed.
        random_seed: Seed of the noise.

    Raises:
        UsageError: A value is out of range.
    """

    space: Space = "latent"
    ae_align_scale: float = 0.5
    steps: int = 200
    lr: float = 0.1
    restarts: int = 1
    noise: float = 0.1
    random_seed: int = 0

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise unknown_name("space", self.space, SPACES)
        if not 0 <= self.ae_align_scale <= 1:
            raise UsageError(f"ae_align_scale must be from 0 to 1, not {self.ae_align_scale}")
        if not (self.steps > 0 and self.lr > 0 and self.restarts > 0 and self.noise >= 0):
            raise UsageError("steps, lr and restarts must be above 0, and noise 0 or more")


@dataclass(frozen=True)
class LatentDesign:
    """Result of a latent search. Of the three predictions, only `composition_values` belong to a real material.

    Attributes:
        values: Predictions for each objective from the optimised latent, (B, R, T).
        decoded_values: Predictions after decoding and encoding it; in the space of descriptors, the same.
        weights: Atomic fractions of the compositions whose descriptors are nearest to the decoded ones, (B, R, n).
        composition_values: Predictions for these compositions, (B, R, T).
        residuals: Distance of the decoded descriptors from those of the compositions, (B, R).
        descriptors: The decoded descriptors, (B, R, D).
        initial_values: Predictions at the seeds, (B, T).
        trajectory: Predictions at every step, (B, R, S, T).
    """

    values: np.ndarray
    decoded_values: np.ndarray
    weights: np.ndarray
    composition_values: np.ndarray
    residuals: np.ndarray
    descriptors: np.ndarray
    initial_values: np.ndarray
    trajectory: np.ndarray


def optimize_latent(
    model: DesignModel,
    objectives: Sequence[Objective],
    *,
    seeds: np.ndarray,
    settings: LatentSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LatentDesign:
    """Optimise latents or descriptors, then find the nearest compositions.

    Rows are searched independently; the result of each is its best step. The network is left unchanged.

    Args:
        model: The network; the space `latent` needs a bounded latent stage and an autoencoder.
        objectives: What to search for.
        seeds: Amounts of the elements to start from, (B, n).
        settings: Settings of the search.
        progress: Called with the number of finished steps and of all steps.

    Raises:
        UsageError: Objectives, seeds or settings contradict each other or do not fit the network.
    """
    settings, seeds = settings or LatentSettings(), seed_fractions(seeds)
    function = ObjectiveFunction(objectives, model.network)
    function.require_rows(len(seeds) * settings.restarts)
    space = _Space(model, settings)
    with frozen(model.network):
        x0 = model.descriptors(torch.as_tensor(seeds, dtype=torch.get_default_dtype(), device=model.device))
        with torch.no_grad():
            initial_values = function.values(model.latents(x0))
            start = space.start(x0.repeat_interleave(settings.restarts, 0))
        generator = torch.Generator().manual_seed(settings.random_seed)
        noise = settings.noise * torch.randn(start.shape, generator=generator)
        noise[:: settings.restarts] = 0
        found, trajectory = _search(space, function, start + noise.to(start.device), settings, progress)
        return _result(model, function, space, found, trajectory, initial_values, settings.restarts)


class _Space:
    """The space of a search: its variable, with the latent and the descriptor of it."""

    def __init__(self, model: DesignModel, settings: LatentSettings) -> None:
        self.model, self.alpha = model, settings.ae_align_scale
        self.in_latents = settings.space == "latent"
        self.decoder = model.decoder() if self.in_latents else None

    def start(self, x0: Tensor) -> Tensor:
        """Return the variable that belongs to descriptors (B R, D)."""
        if not self.in_latents:
            return self.model.standardised(x0)
        return torch.atanh(self.model.latents(x0).clamp(-1 + 1e-6, 1 - 1e-6))

    def latent(self, variable: Tensor) -> Tensor:
        """Return the latent of a variable."""
        return torch.tanh(variable) if self.in_latents else self.model.latents(self.descriptor(variable))

    def descriptor(self, variable: Tensor) -> Tensor:
        """Return the descriptor of a variable, decoded from a latent."""
        if self.decoder is None:
            return self.model.restored(variable)
        return self.model.decoded(self.decoder, self.latent(variable))

    def drift(self, variable: Tensor) -> Tensor:
        """Return the mean squared distance of latents from their decoded and re-encoded selves, (B R,)."""
        if self.decoder is None:
            return variable.new_zeros(len(variable))
        encoded = self.model.latents(self.descriptor(variable))
        return (self.latent(variable) - encoded).square().mean(1)


def _search(
    space: _Space,
    function: ObjectiveFunction,
    start: Tensor,
    settings: LatentSettings,
    progress: Callable[[int, int], None] | None,
) -> tuple[Tensor, Tensor]:
    """Return the best variables (B R, .) and the predictions at every step, (S, B R, T)."""
    variable = start.clone().requires_grad_()
    best, lowest = start.clone(), torch.full((len(start),), torch.inf, device=start.device)
    optimizer, trajectory = torch.optim.Adam([variable], lr=settings.lr), []
    for step in range(settings.steps):
        latent = space.latent(variable)
        losses = function.losses(latent)
        if space.alpha:
            losses = losses + space.alpha * space.drift(variable)
        with torch.no_grad():
            better = losses < lowest
            lowest = losses.where(better, lowest)
            best = variable.where(better[:, None], best)
            trajectory.append(function.values(latent).cpu())
        (variable.grad,) = torch.autograd.grad(losses.sum(), variable)
        optimizer.step()
        if progress is not None:
            progress(step + 1, settings.steps)
    return best.detach(), torch.stack(trajectory)


@torch.no_grad()
def _result(
    model: DesignModel,
    function: ObjectiveFunction,
    space: _Space,
    found: Tensor,
    trajectory: Tensor,
    initial_values: Tensor,
    restarts: int,
) -> LatentDesign:
    x = space.descriptor(found)
    weights, residuals = model.compositions(x)
    compositions = torch.as_tensor(weights, dtype=x.dtype, device=x.device)

    def by_seed(table: Tensor | np.ndarray) -> np.ndarray:
        table = table.cpu().numpy() if isinstance(table, Tensor) else table
        return table.reshape(-1, restarts, *table.shape[1:])

    return LatentDesign(
        values=by_seed(function.values(space.latent(found))),
        decoded_values=by_seed(function.values(model.latents(x))),
        weights=by_seed(weights),
        composition_values=by_seed(function.values(model.latents(model.descriptors(compositions)))),
        residuals=by_seed(residuals),
        descriptors=by_seed(x),
        initial_values=initial_values.cpu().numpy(),
        trajectory=by_seed(trajectory.transpose(0, 1).contiguous()),
    )
