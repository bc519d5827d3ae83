"""Compositions with wanted properties: gradient descent on the logits of atomic fractions, under constraints.

B recipes, n elements, T objectives, S steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crystrata.design.constraints import ELEMENTS, Constraints
from crystrata.design.model import DesignModel, untouched
from crystrata.design.objectives import Objective, ObjectiveFunction
from crystrata.design.simplex import Simplex, temperature
from crystrata.errors import UsageError

_ABSENT = 1e-12  # weight that the logits of an absent element start from
_START_SPREAD = 0.5
_LOOK = 10  # steps from one look at the exact recipes to the next


@dataclass(frozen=True)
class CompositionSettings:
    """How compositions are searched.

    Attributes:
        seed_blend: Share of the seed at the start; the rest is spread over all allowed elements, so that these can
            enter.
        diversity_scale: 1 lets a recipe be as mixed as it objectives, 0 charges it the entropy of its fractions.
        annealing_scale: How soft the choice of elements begins, 0 to 1.
        steps: Steps of Adam.
        lr: Their size.
        starts: Recipes, where no seeds are given.
        random_seed: Seed of the random starts.
        keep_weights: Whether the recipes of every step are kept.

    Raises:
        UsageError: A value is out of range.
    """

    seed_blend: float = 0.95
    diversity_scale: float = 1.0
    annealing_scale: float = 0.5
    steps: int = 300
    lr: float = 0.05
    starts: int = 20
    random_seed: int = 0
    keep_weights: bool = False

    def __post_init__(self) -> None:
        for name in ("seed_blend", "diversity_scale", "annealing_scale"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        for name in ("steps", "lr", "starts"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name)}")


@dataclass(frozen=True)
class CompositionDesign:
    """What a search found.

    Attributes:
        weights: Atomic fractions of the best recipes, which keep to every constraint, (B, n).
        losses: Their losses, (B,).
        values: What is predicted for each objective, (B, T).
        initial_values: Of the exact recipes at the start, (B, T).
        trajectory: What was predicted on the way, (S, B, T).
        weight_trajectory: The recipes on the way, (S, B, n), if they were kept.
    """

    weights: np.ndarray
    losses: np.ndarray
    values: np.ndarray
    initial_values: np.ndarray
    trajectory: np.ndarray
    weight_trajectory: np.ndarray | None = None


def optimize_composition(
    model: DesignModel,
    objectives: Sequence[Objective],
    *,
    seeds: np.ndarray | None = None,
    constraints: Constraints | None = None,
    settings: CompositionSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CompositionDesign:
    """Find compositions with wanted properties.

    Every row is a search of its own. Of all steps the recipe with the lowest loss counts, as it is once it keeps to the
    constraints exactly. The network is as before afterwards.

    Args:
        model: The network.
        objectives: What is wanted.
        seeds: Amounts of the elements to start from, (B, n); random starts if not given.
        constraints: What recipes keep to.
        settings: How it is searched.
        progress: Told the steps that are done, and all.

    Raises:
        UsageError: Objectives, constraints, seeds or settings contradict each other or the network.
    """
    constraints, settings = constraints or Constraints(), settings or CompositionSettings()
    function = ObjectiveFunction(objectives, model.network)
    seeds = None if seeds is None else checked_seeds(seeds)
    rows = settings.starts if seeds is None else len(seeds)
    function.require_rows(rows)
    simplex = Simplex(constraints, constraints.locked_amounts(seeds, rows), model.device)
    step_scale = torch.as_tensor(constraints.step_scale, dtype=torch.get_default_dtype(), device=model.device)
    logits = _first_logits(seeds, constraints, settings).to(model.device).requires_grad_()
    with untouched(model.network):
        return _search(model, function, simplex, logits, step_scale, settings, progress)


def _search(
    model: DesignModel,
    function: ObjectiveFunction,
    simplex: Simplex,
    logits: Tensor,
    step_scale: Tensor,
    settings: CompositionSettings,
    progress: Callable[[int, int], None] | None,
) -> CompositionDesign:
    def judged(weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss (B,) and predictions (B, T)."""
        latent = model.latents(model.descriptors(weights))
        entropy = -(weights * weights.clamp(min=_ABSENT).log()).sum(1)
        return function.losses(latent) + (1 - settings.diversity_scale) * entropy, function.values(latent)

    optimizer = torch.optim.Adam([logits], lr=settings.lr)
    best, trajectory, path = _Best(simplex.final(logits), judged), [], []
    initial_values = best.values
    for step in range(settings.steps):
        weights = simplex.recipe(logits, temperature(step / max(settings.steps - 1, 1), settings.annealing_scale))
        losses, values = judged(weights)
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        logits.grad = gradient
        trajectory.append(values.detach().cpu())
        if settings.keep_weights:
            path.append(weights.detach().cpu())
        before = logits.detach().clone()
        optimizer.step()
        with torch.no_grad():  # the update is scaled, not the gradient: Adam would undo that
            logits.copy_(before + step_scale * (logits - before))
        if (step + 1) % _LOOK == 0 or step + 1 == settings.steps:
            best.look(simplex.final(logits))
        if progress is not None:
            progress(step + 1, settings.steps)
    return CompositionDesign(
        weights=best.weights.cpu().numpy(),
        losses=best.losses.cpu().numpy(),
        values=best.values.cpu().numpy(),
        initial_values=initial_values.cpu().numpy(),
        trajectory=torch.stack(trajectory).numpy(),
        weight_trajectory=torch.stack(path).numpy() if settings.keep_weights else None,
    )


class _Best:
    """The best exact recipe of each row so far."""

    def __init__(self, weights: Tensor, judge: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        self._judge = judge
        self.weights = weights
        with torch.no_grad():
            self.losses, self.values = judge(weights)

    @torch.no_grad()
    def look(self, weights: Tensor) -> None:
        """Take over the rows of these recipes (B, n) that are better."""
        losses, values = self._judge(weights)
        better = losses < self.losses
        self.losses = losses.where(better, self.losses)
        self.values = values.where(better[:, None], self.values)
        self.weights = weights.where(better[:, None], self.weights)


def checked_seeds(seeds: np.ndarray) -> np.ndarray:
    """Return amounts as atomic fractions, (B, n).

    Raises:
        UsageError: They are not of n elements, negative, or a row is empty.
    """
    seeds = np.atleast_2d(np.asarray(seeds, dtype=np.float64))
    if seeds.ndim != 2 or seeds.shape[1] != ELEMENTS or not len(seeds):
        raise UsageError(f"seeds are amounts of {ELEMENTS} elements, (B, {ELEMENTS}), not {seeds.shape}")
    if not np.isfinite(seeds).all() or (seeds < 0).any() or not (seeds.sum(axis=1) > 0).all():
        raise UsageError("seeds must be amounts of 0 or more, with something in every row")
    return seeds / seeds.sum(axis=1, keepdims=True)


def _first_logits(seeds: np.ndarray | None, constraints: Constraints, settings: CompositionSettings) -> Tensor:
    if seeds is None:
        generator = torch.Generator().manual_seed(settings.random_seed)
        return _START_SPREAD * torch.randn(settings.starts, ELEMENTS, generator=generator)
    uniform = constraints.allowed / constraints.allowed.sum()
    start = settings.seed_blend * seeds + (1 - settings.seed_blend) * uniform
    return torch.as_tensor(np.log(np.maximum(start, _ABSENT)), dtype=torch.get_default_dtype())
