"""The order in which tasks are learned one after another, and what is replayed on each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crystrata.datasets.masks import replay_count
from crystrata.errors import UsageError, unknown_name
from crystrata.runs.continual_config import ContinualConfig


@dataclass(frozen=True)
class ContinualStep:
    """One step of continual learning.

    Attributes:
        number: Counted from 1.
        task: The task that arrives, learned from all its training samples.
        replayed: Earlier task -> number of its training samples that an epoch sees; the others rest.
    """

    number: int
    task: str
    replayed: Mapping[str, int]

    @property
    def folder(self) -> str:
        """Name of its run directory."""
        return f"step{self.number:02d}_{self.task}"


def plan_steps(config: ContinualConfig, tasks: Sequence[str], samples: Mapping[str, int]) -> list[ContinualStep]:
    """Return the steps of continual learning.

    Args:
        config: What decides the steps.
        tasks: Names in the order of the configuration.
        samples: Task -> known training samples.

    Raises:
        UsageError: `last` or `replay_by_task` names a task that is not there, or a name is none of a folder.
    """
    for name in tasks:
        if Path(name).name != name:
            raise UsageError(f"task {name!r} cannot name a folder: leave out slashes")
    for key, named in (("last", config.last), ("replay_by_task", config.replay_by_task)):
        for name in named:
            if name not in tasks:
                raise unknown_name(f"task in {key}", name, tasks)
    order = [name for name in tasks if name not in config.last]
    if config.order_seed is not None:
        order = [order[place] for place in np.random.default_rng(config.order_seed).permutation(len(order))]
    order += config.last
    amounts = {name: replay_count(config.replay_by_task.get(name, config.replay), samples[name]) for name in order}
    steps = []
    for number, name in enumerate(order, start=1):
        replays = number % config.replay_interval == 0
        earlier = {known: amounts[known] for known in order[: number - 1] if replays and amounts[known]}
        steps.append(ContinualStep(number, name, earlier))
    return steps
