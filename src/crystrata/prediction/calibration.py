"""What validation taught about the predictions of a network, and its file beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crystrata.errors import ModelError
from crystrata.files import sha256_of
from crystrata.prediction.domain import Domain
from crystrata.prediction.intervals import ConformalIntervals
from crystrata.runs.directory import CALIBRATION
from crystrata.training.checkpoints import read_checkpoint, write_checkpoint

FORMAT = 1


@dataclass(frozen=True)
class Calibration:
    """Intervals and domain of one network: how large its errors are, and where it was trained."""

    intervals: ConformalIntervals
    domain: Domain

    def as_tensors(self) -> dict[str, Tensor]:
        """Return all of it as named tensors."""
        intervals, domain = self.intervals, self.domain
        arrays = {
            "latents": intervals.latents,
            "metal": intervals.metal,
            **{f"errors.{name}": error for name, error in intervals.errors.items()},
            **{f"scores.{name}": score for name, score in intervals.scores.items()},
            "domain.latents": domain.latents,
            "domain.reach": np.float64(domain.reach),
            **({} if domain.volume is None else {"domain.volume": domain.volume}),
            **({} if domain.usual is None else {"domain.usual": domain.usual}),
        }
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Calibration:
        """Make a calibration from the tensors of `as_tensors`; a ModelError where some are missing or do not fit."""
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        errors, scores = (
            {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
            for kind in ("errors.", "scores.")
        )
        try:
            intervals = ConformalIntervals(arrays["latents"], arrays["metal"], errors, scores)
            volume, usual = arrays.get("domain.volume"), arrays.get("domain.usual")
            domain = Domain(arrays["domain.latents"], float(arrays["domain.reach"]), volume, usual)
        except KeyError as error:
            raise ModelError(
                f"the calibration of the model has no {error}; evaluate the run again with --resume"
            ) from None
        columns = [intervals.metal, *errors.values(), *scores.values()]
        if errors.keys() != scores.keys() or any(len(column) != len(intervals.latents) for column in columns):
            raise ModelError("the parts of the model's calibration do not fit each other; evaluate the run again "
                             "with --resume")  # fmt: skip
        return cls(intervals, domain)


def write_calibration(run: Path, calibration: Calibration, weights: Path) -> None:
    """Write the calibration of the weights of a run into its directory, atomically."""
    content = {"format": FORMAT, "weights_sha256": sha256_of(weights), "calibration": calibration.as_tensors()}
    write_checkpoint(run / CALIBRATION, content)


def read_calibration(weights: Path) -> Calibration | None:
    """Return the calibration beside a weights file; None if there is none, or one of other weights.

    Weights that a resumed run has improved since are other ones, until it is evaluated. Raises a ModelError where the
    file is damaged or of another format.
    """
    path = weights.parent / CALIBRATION
    if not path.is_file():
        return None
    content = read_checkpoint(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT or "calibration" not in content:
        raise ModelError(
            f"{path} is not of format {FORMAT}, which this version reads: evaluate the run again with --resume"
        )
    if content.get("weights_sha256") != sha256_of(weights):
        return None
    return Calibration.from_tensors(content["calibration"])
