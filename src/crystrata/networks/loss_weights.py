"""The weight of each task in the loss: static, or learned from its uncertainty (Kendall et al., 2018)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

_LIMIT = 5.0


class LossWeights(nn.Module):
    """Total loss over the tasks that are present in a step, sum_t v_t L_t'.

        L_t' = w_t L_t exp(-2 s_t) / 2 + s_t    learned, s_t = log sigma_t keyed by task name
        L_t' = w_t L_t                          static

    A learned s_t cancels any static weight, so how much a task may pull on the shared encoder is a factor of its own,
    the emphasis v_t: the mean over the few labels of a sparse task is a noisy guide.

    Args:
        tasks: Task names.
        learned: Whether the s_t are trained; they must be handed to the optimizer, without weight decay.
        static: Tasks without an s_t in any case.
        weights: Static weights w_t; 1 where not given.
        emphasis: v_t; 1 where not given.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        learned: bool,
        static: Collection[str] = (),
        weights: Mapping[str, float] | None = None,
        emphasis: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.weights = {task: float((weights or {}).get(task, 1.0)) for task in tasks}
        self.emphasis = {task: float((emphasis or {}).get(task, 1.0)) for task in tasks}
        self.log_sigma = nn.ParameterDict(
            {task: nn.Parameter(torch.zeros(())) for task in tasks if learned and task not in static}
        )

    def forward(self, sums: Mapping[str, Tensor], counts: Mapping[str, Tensor], share: float = 1.0) -> Tensor:
        """Return the loss of a step or of one of its micro-batches.

        Args:
            sums: Loss sum of each task over this micro-batch.
            counts: Known labels of each task over the *whole* optimizer step, or the sum of their weights; a task with
                none contributes nothing.
            share: Part of the step that this micro-batch is: the shares of a step add up to 1.
        """
        terms = []
        for task, total in sums.items():
            present = counts[task] > 0
            mean = self.weights[task] * total / counts[task].where(present, 1)
            if task in self.log_sigma:
                s = self.log_sigma[task].clamp(-_LIMIT, _LIMIT)
                mean = 0.5 * torch.exp(-2 * s) * mean + s * share * present.to(total.dtype)
            terms.append(self.emphasis[task] * mean)
        return torch.stack(terms).sum()

    def sigmas(self) -> dict[str, float]:
        """Return sigma_t of each task (for logs); empty with static weights."""
        return {task: float(s.detach().clamp(-_LIMIT, _LIMIT).exp()) for task, s in self.log_sigma.items()}
