"""Search for compositions by gradient descent on the logits of their atomic fractions, under constraints.

B compositions, n elements, T objectives, S steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crystrata.design.constraints import ELEMENTS, Constraints
from crystrata.design.objectives import Objective, ObjectiveFunction
from crystrata.design.simplex import Simplex, temperature
from crystrata.design.trained import DesignModel, frozen
from crystrata.errors import UsageError

_ABSENT = 1e-12  # fraction that the logits of an absent element start from
_START_SPREAD = 0.5
_STEPS_TO_EXACT = 10  # steps between evaluations of the exact compositions


@dataclass(frozen=True)
class CompositionSettings:
    """How compositions are searched.

    Attributes:
        seed_blend: Share of the seed at the start; the rest is spread over all allowed elements, so that they can
            enter.
        diversity_scale: 1 lets a composition mix freely, 0 adds the entropy of its fractions to the loss.
        annealing_scale: Softness of the choice of elements at the start, from 0 to 1.
        steps: Steps of Adam.
        lr: Learning rate.
        starts: Number of random starts, used without seeds.
        random_seed: Seed of the random starts.
        keep_weights: Whether to keep the compositions of every step.

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
    """Result of a search for compositions.

    Attributes:
        weights: Atomic fractions of the best compositions, which satisfy every constraint exactly, (B, n).
        losses: Their losses, (B,).
        values: Their predictions for each objective, (B, T).
        initial_values: Predictions at the start, (B, T).
        trajectory: Predictions at every step, (S, B, T).
        weight_trajectory: Compositions at every step, (S, B, n), with `keep_weights`.
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
    """Find compositions that meet objectives.

    Rows are searched independently. The result of each is the composition with the lowest loss over all steps, once it
    satisfies the constraints exactly. The network is left unchanged.

    Args:
        model: The network.
        objectives: What to search for.
        seeds: Amounts of the elements to start from, (B, n); random starts if not given.
        constraints: Constraints on the compositions.
        settings: Settings of the search.
        progress: Called with the number of finished steps and of all steps.

    Raises:
        UsageError: Objectives, constraints, seeds or settings contradict each other or do not fit the network.
    """
    constraints, settings = constraints or Constraints(), settings or CompositionSettings()
    function = ObjectiveFunction(objectives, model.network)
    seeds = None if seeds is None else seed_fractions(seeds)
    rows = settings.starts if seeds is None else len(seeds)
    function.require_rows(rows)
    simplex = Simplex(constraints, constraints.locked_amounts(seeds, rows), model.device)
    step_scale = torch.as_tensor(constraints.step_scale, dtype=torch.get_default_dtype(), device=model.device)
    logits = _first_logits(seeds, constraints, settings).to(model.device).requires_grad_()
    with frozen(model.network):
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
    def evaluate(weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return losses (B,) and predictions (B, T)."""
        latent = model.latents(model.descriptors(weights))
        entropy = -(weights * weights.clamp(min=_ABSENT).log()).sum(1)
        return function.losses(latent) + (1 - settings.diversity_scale) * entropy, function.values(latent)

    optimizer = torch.optim.Adam([logits], lr=settings.lr)
    best, trajectory, path = _Best(simplex.final(logits), evaluate), [], []
    initial_values = best.values
    for step in range(settings.steps):
        weights = simplex.compositions(logits, temperature(step / max(settings.steps - 1, 1), settings.annealing_scale))
        losses, values = evaluate(weights)
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        logits.grad = gradient
        trajectory.append(values.detach().cpu())
        if settings.keep_weights:
            path.append(weights.detach().cpu())
        before = logits.detach().clone()
        optimizer.step()
        with torch.no_grad():  # scale the update, not the gradient, whose scale Adam divides out
            logits.copy_(before + step_scale * (logits - before))
        if (step + 1) % _STEPS_TO_EXACT == 0 or step + 1 == settings.steps:
            best.update(simplex.final(logits))
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
    """The best exact composition of each row so far."""

    def __init__(self, weights: Tensor, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        self._evaluate = evaluate
        self.weights = weights
        with torch.no_grad():
            self.losses, self.values = evaluate(weights)

    @torch.no_grad()
    def update(self, weights: Tensor) -> None:
        """Replace the rows for which these compositions (B, n) are better."""
        losses, values = self._evaluate(weights)
        better = losses < self.losses
        self.losses = losses.where(better, self.losses)
        self.values = values.where(better[:, None], self.values)
        self.weights = weights.where(better[:, None], self.weights)


def seed_fractions(seeds: np.ndarray) -> np.ndarray:
    """Return amounts as atomic fractions, (B, n).

    Raises:
        UsageError: The shape is another, an amount is negative or not finite, or a row is empty.
    """
    seeds = np.atleast_2d(np.asarray(seeds, dtype=np.float64))
    if seeds.ndim != 2 or seeds.shape[1] != ELEMENTS or not len(seeds):
        raise UsageError(f"seeds must be amounts of {ELEMENTS} elements, (B, {ELEMENTS}), not {seeds.shape}")
    if not np.isfinite(seeds).all() or (seeds < 0).any() or not (seeds.sum(axis=1) > 0).all():
        raise UsageError("seeds must be finite amounts of 0 or more, with at least one element in every row")
    return seeds / seeds.sum(axis=1, keepdims=True)


def _first_logits(seeds: np.ndarray | None, constraints: Constraints, settings: CompositionSettings) -> Tensor:
    if seeds is None:
        generator = torch.Generator().manual_seed(settings.random_seed)
        return _START_SPREAD * torch.randn(settings.starts, ELEMENTS, generator=generator)
    uniform = constraints.allowed / constraints.allowed.sum()
    start = settings.seed_blend * seeds + (1 - settings.seed_blend) * uniform
    return torch.as_tensor(np.log(np.maximum(start, _ABSENT)), dtype=torch.get_default_dtype())
