"""Training a peer as Crystrata trains: one loop for all, in plain torch, in a process of its own.

    python -m peers.loop MODULE OPTIONS PLAN SAMPLE

MODULE is an adapter with a function `learner`, OPTIONS its arguments and PLAN the fields of `Plan`, both as JSON.
Answers are lines of JSON on the standard output; what libraries print goes to the standard error.

    -> {"ready": {"parameters": 616000, ...}}      or {"absent": "No module named ..."}, {"failed": "..."}
    -> {"epoch": 1.0, "mae": 0.31, "seconds": 12.5}      after each epoch; MAE on the scale of the labels
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peers.sample import Sample, join
from peers.torch_settings import Learner

CLIP, DECAY, WEIGHT_DECAY = 0.5, 0.999, 1e-5  # gradient norm, moving average, AdamW
WARM_UP, FINAL = 0.05, 0.01  # of the steps, of the peak rate
EVALUATED = 128  # crystals of a validation batch


@dataclass(frozen=True)
class Plan:
    """What a training is.

    Attributes:
        rate: Peak learning rate.
        epochs: Passes over the training crystals; the cosine has this length. May be a fraction.
        train: Crystals to train on, the first of the sample; the others validate.
        batch: Crystals of a step.
    """

    rate: float
    epochs: float
    train: int
    batch: int


def trained(learner: Learner, sample: Sample, plan: Plan) -> Iterator[dict[str, float]]:
    """Train; yield epoch, validation MAE of the averaged weights and CPU seconds so far, after each epoch and the end.

    The clock runs over steps and validations; batches are prepared outside it.
    """
    crystals, order = sample.split(), np.random.default_rng(0)
    held_out = crystals[plan.train :]
    validation = [learner.prepare(join(held_out[i : i + EVALUATED])) for i in range(0, len(held_out), EVALUATED)]
    weights: list[Tensor] = list(learner.model.parameters())
    average = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.AdamW(weights, lr=plan.rate, weight_decay=WEIGHT_DECAY, fused=True)
    per_epoch = -(-plan.train // plan.batch)
    steps, seconds, rows = round(plan.epochs * per_epoch), 0.0, np.empty(0, dtype=int)
    for step in range(steps):
        rows = rows if len(rows) else order.permutation(plan.train)
        part, rows = learner.prepare(join([crystals[row] for row in rows[: plan.batch]])), rows[plan.batch :]
        started = time.process_time()
        optimizer.param_groups[0]["lr"] = plan.rate * cosine_factor(step, steps)
        _step(learner, optimizer, weights, *part)
        torch._foreach_lerp_(average, [weight.detach() for weight in weights], 1 - _decay(step + 1))
        seconds += time.process_time() - started
        if not len(rows) or step + 1 == steps:
            started = time.process_time()
            mae = _validated(learner, weights, average, validation)
            seconds += time.process_time() - started
            yield {"epoch": (step + 1) / per_epoch, "mae": mae, "seconds": seconds}


def cosine_factor(step: int, steps: int) -> float:
    """Return the learning rate at a step as a fraction of the peak: linear warm-up, cosine to 1 %."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return FINAL + (1 - FINAL) * 0.5 * (1 + cos(pi * progress))


def _decay(step: int) -> float:
    return min(DECAY, (1 + step) / (10 + step))


def _step(
    learner: Learner, optimizer: torch.optim.Optimizer, weights: list[Tensor], inputs: Any, labels: Tensor
) -> None:
    optimizer.zero_grad(set_to_none=True)
    nn.functional.l1_loss(learner.predict(inputs), labels).backward()
    torch.nn.utils.clip_grad_norm_(weights, CLIP)
    optimizer.step()


def _validated(
    learner: Learner, weights: list[Tensor], average: list[Tensor], batches: list[tuple[Any, Tensor]]
) -> float:
    """Return the MAE with the averaged weights in place of the last ones."""
    last = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        torch._foreach_copy_(weights, average)
        learner.model.eval()
        errors = torch.cat([(learner.predict(inputs) - labels).abs() for inputs, labels in batches])
        learner.model.train()
        torch._foreach_copy_(weights, last)
    return float(errors.mean())


def main() -> None:
    """Train the peer that the arguments name."""
    module, options, plan, path = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    sample = Sample.load(Path(path))
    try:
        learner = import_module(f"peers.{module}").learner(sample, **json.loads(options))
        say(ready={"parameters": learner.parameters, **learner.facts})
        for point in trained(learner, sample, Plan(**json.loads(plan))):
            say(**point)
    except ImportError as error:
        say(absent=str(error))
    except Exception as error:  # the page says it; the other peers go on
        say(failed=f"{type(error).__name__}: {error}".splitlines()[0])
        raise


if __name__ == "__main__":
    main()
