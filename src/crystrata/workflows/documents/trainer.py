"""The trainer of a run as YAML files write it: those keys of Lightning's trainer that the engine honours, and ours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from crystrata.errors import UsageError

_CLOCK = (86400, 3600, 60, 1)  # of DD:HH:MM:SS


@dataclass(frozen=True)
class TrainerSettings:
    """How and where a run is carried out; what is None is left to the model.

    Attributes:
        max_epochs: Passes over the training part.
        accelerator: `auto`, `cpu` or `gpu`.
        devices: One; runs on several are started as one run each.
        default_root_dir: Folder of all runs.
        gradient_clip_val: Largest gradient norm.
        accumulate_grad_batches: Micro-batches per optimiser step.
        max_time: Hours are counted from `DD:HH:MM:SS` or `{hours: 1.5}`.
        patience: Epochs without a better score before the run stops.
        keep_last: Checkpoints that are kept.
        top_k: Epochs whose weights are kept, the best ones.
        callbacks: Class paths of callbacks beside our own.
        logger: Whether the run keeps its logs, or class paths of loggers beside its own.
    """

    max_epochs: int | None = None
    accelerator: Literal["auto", "cpu", "gpu", "cuda"] = "auto"
    devices: Literal[1, "1", "auto"] = 1
    default_root_dir: str | None = None
    gradient_clip_val: float | None = None
    accumulate_grad_batches: int | None = None
    max_time: str | int | dict[str, float] | None = None
    patience: int | None = None
    keep_last: int | None = None
    top_k: int | None = None
    callbacks: str | dict[str, Any] | list[str | dict[str, Any]] | None = None
    logger: bool | str | dict[str, Any] | list[str | dict[str, Any]] = True

    def fields_of_run(self) -> dict[str, Any]:
        """Return the fields of a run's configuration that are given."""
        values = {
            "epochs": self.max_epochs,
            "device": {"gpu": "cuda"}.get(self.accelerator, self.accelerator),
            "models_dir": self.default_root_dir,
            "clip": self.gradient_clip_val,
            "accumulate": self.accumulate_grad_batches,
            "time_budget": hours_of(self.max_time),
            "patience": self.patience,
            "keep_last": self.keep_last,
            "top_k": self.top_k,
        }
        return {name: value for name, value in values.items() if value is not None}


def hours_of(time: str | int | dict[str, float] | None) -> float | None:
    """Return the hours of `DD:HH:MM:SS`, or of a mapping such as `{hours: 1.5}`.

    Raises:
        UsageError: It is neither, such as the number that YAML makes of `1:00:00:00` without quotes.
    """
    if time is None:
        return None
    if isinstance(time, int):
        raise UsageError(
            f"trainer.max_time is the number {time}: write DD:HH:MM:SS in quotes, such as '01:00:00:00', "
            "or YAML may read it as one number; or give a mapping such as hours: 1.5"
        )
    try:
        if isinstance(time, str):
            parts = [int(part) for part in time.split(":")]
            return sum(unit * part for unit, part in zip(_CLOCK, parts, strict=True)) / 3600
        return timedelta(**time) / timedelta(hours=1)
    except (ValueError, TypeError):
        raise UsageError(
            f"trainer.max_time must be DD:HH:MM:SS or a mapping such as hours: 1.5, not {time!r}"
        ) from None
