"""Optimizers that know a matrix of weights from a list of numbers: SOAP and Muon, and Adam for all that is no matrix.

Weights of one shape are updated together, K of them as one stack: a network of many small matrices is then a handful of
batched products. State is kept by weight, as torch's own optimizers keep it, so checkpoints resume bit for bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crystrata.presets import OptimizerName


class MatrixOptimizer(torch.optim.Optimizer):
    """Decoupled weight decay and a step for each stack of weights; what the step is, subclasses say.

    Args:
        weights: Weights, or groups of them with settings of their own.
        lr: Learning rate.
        weight_decay: Share of the weights, times the rate, that is taken off in each step.
        settings: Further settings of the groups.
    """

    def __init__(self, weights: Iterable[Any], lr: float, weight_decay: float, **settings: Any) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay, **settings})
        self._stacks: dict[tuple[int, ...], dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all weights that have a gradient."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            alike: defaultdict[tuple[Any, ...], list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[(*weight.shape, self.state[weight].get("step", 0))].append(weight)
            for weights in alike.values():
                self._step_stack(weights, group)
        return loss

    def _step_stack(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Update K weights of one shape that have taken as many steps."""
        states = [self.state[weight] for weight in weights]
        step, stacks = states[0].get("step", 0) + 1, self._stacks_of(weights)
        change = self._change(torch.stack([weight.grad for weight in weights]), stacks, step, group)  # type: ignore[misc]
        for row, state in enumerate(states):
            if step == 1:
                state.update({name: stack[row] for name, stack in stacks.items()})
            state["step"] = step
        if change is not None:
            values: list[Tensor] = [weight.data for weight in weights]
            torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(values, list(change.unbind()), alpha=-group["lr"])

    def _stacks_of(self, weights: Sequence[nn.Parameter]) -> dict[str, Tensor]:
        """Return the state of weights, each entry (K, ...); the state of each weight is a view into it."""
        key, states = tuple(id(weight) for weight in weights), [self.state[weight] for weight in weights]
        stacks = self._stacks.get(key)
        if stacks is None or any(stack.data_ptr() != states[0][name].data_ptr() for name, stack in stacks.items()):
            names = [name for name in states[0] if name != "step"]
            stacks = self._stacks[key] = {name: torch.stack([state[name] for state in states]) for name in names}
            for row, state in enumerate(states):
                state.update({name: stack[row] for name, stack in stacks.items()})
        return stacks

    def _change(self, gradient: Tensor, state: dict[str, Tensor], step: int, group: dict[str, Any]) -> Tensor | None:
        """Return what is taken off weights per unit of rate, (K, ...), and bring their state up to date."""
        raise NotImplementedError


def _adam(gradient: Tensor, state: dict[str, Tensor], step: int, betas: tuple[float, float], eps: float) -> Tensor:
    """Return the change of Adam for gradients of any shape."""
    if not state:
        state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    mean = state["mean"].lerp_(gradient, 1 - betas[0])
    square = state["square"].lerp_(gradient.square(), 1 - betas[1])
    scale = (square / (1 - betas[1] ** step)).sqrt_().add_(eps)
    return (mean / (1 - betas[0] ** step)).div_(scale)


class SOAP(MatrixOptimizer):
    """Adam in the eigenbases of Shampoo's statistics (Vyas et al., 2024, algorithm 3).

    A gradient G (m, n) has the statistics G G^T (m, m) and G^T G (n, n); Adam runs in their eigenbases, which follow by
    a power iteration. A side longer than `largest` stays as it is. The first step only begins the statistics.

    Args:
        weights: Weights, or groups of them.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
        betas: Decay of the mean and of the square of the gradient; the latter of the statistics too.
        eps: Added to the root of the square.
        every: Steps between two updates of the bases.
        largest: Longest side that gets a basis.
    """

    def __init__(
        self, weights: Iterable[Any], lr: float, weight_decay: float = 0.0, *,
        betas: tuple[float, float] = (0.95, 0.95), eps: float = 1e-8, every: int = 10, largest: int = 512,
    ) -> None:  # fmt: skip
        super().__init__(weights, lr, weight_decay, betas=betas, eps=eps, every=every, largest=largest)

    def _change(self, gradient: Tensor, state: dict[str, Tensor], step: int, group: dict[str, Any]) -> Tensor | None:
        (decay, square_decay), eps = group["betas"], group["eps"]
        if gradient.dim() != 3:
            return _adam(gradient, state, step, group["betas"], eps)
        if not state:
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            self._gather(gradient, state, group)
            for side in ("left", "right"):
                if side in state:
                    state[f"{side}_basis"] = torch.linalg.eigh(state[side])[1].flip(-1).contiguous()
            return None
        taken = step - 1  # the first step changed nothing
        turned = _rotated(gradient, state)
        mean = state["mean"].lerp_(turned, 1 - decay)
        square = state["square"].lerp_(turned.square_(), 1 - square_decay)
        scale = (square / (1 - square_decay**taken)).sqrt_().add_(eps)
        change = _rotated(mean / scale, state, back=True).div_(1 - decay**taken)
        self._gather(gradient, state, group)
        if taken % group["every"] == 0:
            self._turn(state)
        return change

    @staticmethod
    def _gather(gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        """Bring the statistics of both sides up to date."""
        decay = group["betas"][1]
        for side, one in (("left", gradient), ("right", gradient.mT)):
            if one.shape[1] <= group["largest"]:
                size = one.shape[1]
                found = state.setdefault(side, gradient.new_zeros(len(gradient), size, size))
                found.baddbmm_(one, one.mT, beta=decay, alpha=1 - decay)

    @staticmethod
    def _turn(state: dict[str, Tensor]) -> None:
        """Turn the bases towards the eigenvectors by one power iteration, those of large eigenvalues first."""
        mean = _rotated(state["mean"], state, back=True)
        for axis, side in ((1, "left"), (2, "right")):
            if side in state:
                basis = state[f"{side}_basis"]
                product = state[side] @ basis
                order = (basis * product).sum(1).argsort(dim=-1, descending=True)
                rows = order[:, :, None] if axis == 1 else order[:, None, :]
                state["square"].copy_(state["square"].gather(axis, rows.expand_as(state["square"])))
                basis.copy_(torch.linalg.qr(product.gather(2, order[:, None, :].expand_as(product)))[0])
        state["mean"].copy_(_rotated(mean, state))


def _rotated(matrices: Tensor, state: dict[str, Tensor], *, back: bool = False) -> Tensor:
    """Return matrices (K, m, n) in the bases of both sides, or back from them; never the tensor that is given."""
    left, right = state.get("left_basis"), state.get("right_basis")
    rotated = matrices if left is None else (left if back else left.mT) @ matrices
    rotated = rotated if right is None else rotated @ (right.mT if back else right)
    return matrices.clone() if rotated is matrices else rotated


class Muon(MatrixOptimizer):
    """Momentum whose matrices are made orthogonal by Newton and Schulz (Jordan, 2024), at the update size of Adam.

    What is no matrix, and what reads or gives single numbers, is trained by Adam.

    Args:
        weights: Weights, or groups of them.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
        momentum: Decay of the gradient, with Nesterov's look ahead.
        betas: Of Adam.
        eps: Of Adam.
    """

    def __init__(
        self, weights: Iterable[Any], lr: float, weight_decay: float = 0.0, *,
        momentum: float = 0.95, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__(weights, lr, weight_decay, momentum=momentum, betas=betas, eps=eps)

    def _change(self, gradient: Tensor, state: dict[str, Tensor], step: int, group: dict[str, Any]) -> Tensor:
        if gradient.dim() != 3 or min(gradient.shape[1:]) == 1:
            return _adam(gradient, state, step, group["betas"], group["eps"])
        momentum = group["momentum"]
        if not state:
            state["mean"] = torch.zeros_like(gradient)
        mean = state["mean"].lerp_(gradient, 1 - momentum)
        return orthogonal(gradient.lerp(mean, momentum)) * (0.2 * max(gradient.shape[1:]) ** 0.5)


def orthogonal(matrices: Tensor, rounds: int = 5) -> Tensor:
    """Return matrices (K, m, n) with all singular values near 1, by Newton and Schulz's quintic iteration."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


def build_optimizer(name: OptimizerName, groups: Iterable[Any], lr: float) -> torch.optim.Optimizer:
    """Return the optimizer of that name over groups of weights."""
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=True)
    return {"soap": SOAP, "muon": Muon}[name](groups, lr=lr)
