"""How long a run will take here, and what memory it needs: some of its steps are carried out and timed."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console

from crystrata.datasets.data_module import BatchDataModule
from crystrata.networks.device import resolve_device
from crystrata.runs.config import RunConfig
from crystrata.training.fit import build, denormals_flushed

_WARM_UP, _TIMED = 3, 20  # steps
_MARGIN = 1.05  # for logs, checkpoints and the memory of a machine that others use


@dataclass(frozen=True)
class Estimate:
    """What training costs on this machine.

    Attributes:
        steps: Optimizer steps of an epoch.
        step_seconds: Of one step.
        validation_seconds: Of one validation.
        peak_bytes: Most memory in the heaviest micro-batch of an epoch: of the GPU, or of the whole process; None where
            the system does not tell.
    """

    steps: int
    step_seconds: float
    validation_seconds: float
    peak_bytes: int | None

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch with its validation."""
        return _MARGIN * (self.steps * self.step_seconds + self.validation_seconds)

    def hours(self, epochs: int) -> float:
        """Return the hours of some epochs."""
        return epochs * self.epoch_seconds / 3600

    def epochs_within(self, hours: float) -> int:
        """Return how many epochs fit into some hours; at least one."""
        return max(1, int(hours * 3600 / self.epoch_seconds))


def estimate(config: RunConfig, data: BatchDataModule, console: Console) -> Estimate:
    """Time some steps of a run, drawn from its first epoch; nothing is written, and no random state is touched.

    Args:
        config: The run.
        data: Its materials and split.
        console: Where steps that are not finite are reported.
    """
    device = resolve_device(config.device)
    with torch.random.fork_rng(), denormals_flushed():
        task = build(config, data, console).to(device)
        optimizer = task.configure_optimizers()
        steps = list(data.sampler)
        chosen = [steps[place] for place in np.linspace(0, len(steps) - 1, _WARM_UP + _TIMED).astype(int)]
        sizes = data.dataset.atom_counts
        heaviest = max(steps, key=lambda step: max(sizes[part].sum() for part in step.micro_batches()))
        started = 0.0
        for number, step in enumerate([heaviest, *chosen]):
            if number == 1 + _WARM_UP:
                started = _now(device)
            task.set_gradient([batch.to(device) for batch in data.micro_batches(step)])
            optimizer.step()
        step_seconds = (_now(device) - started) / _TIMED
        validation = list(data.val_dataloader().sampler)
        started = _now(device)
        with torch.inference_mode():
            for step in validation[:: max(1, len(validation) // 4)]:
                task.network.validate(data.micro_batches(step)[0].to(device))
        share = len(validation) / len(validation[:: max(1, len(validation) // 4)])
        return Estimate(len(steps), step_seconds, (_now(device) - started) * share, _peak_bytes(device))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved()
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
