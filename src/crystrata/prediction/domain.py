"""Whether a crystal is like those of the training. m crystals, n training crystals, d latent width."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from crystrata.elements import SYMBOLS
from crystrata.networks.nearest import nearest
from crystrata.structures.crystal import MAX_VOLUME_PER_ATOM, Crystal

SAMPLE = 4000
"""Training crystals whose latents are kept, at most."""

_NEAR = 0.99  # share of the calibration crystals within the distance 1
_USUAL_VOLUMES = (0.005, 0.995)  # quantiles of the training volumes; above the upper one lie molecules and layers
_LEAST_REACH = 1e-6  # where all latents are equal
_OPENED = 2.0  # [eV] a larger MBJ gap have 1 % of the crystals without an OptB88vdW gap
_RIDGE = 1.0  # shrinks the coefficient of an element seen in few crystals


@dataclass(frozen=True)
class Domain:
    """The training crystals as a network sees them, and the volumes that their elements take.

    Attributes:
        latents: Of a sample of the training crystals, (n', d).
        reach: Distance from them within which 99 % of the calibration crystals lie.
        volume: Coefficients of ln(volume per atom / A^3) over atomic fractions and, last, its mean, (104,); None where
            the materials were not all crystals.
        usual: Ends of the usual range of ln(volume / expected volume), (2,); None likewise.
    """

    latents: np.ndarray
    reach: float
    volume: np.ndarray | None = None
    usual: np.ndarray | None = None

    @classmethod
    def fit(
        cls, training: np.ndarray, calibration: np.ndarray, fractions: np.ndarray | None = None,
        volumes: np.ndarray | None = None,
    ) -> Domain:  # fmt: skip
        """Learn what is usual.

        Args:
            training: Latents of a sample of the training crystals, (n', d).
            calibration: Latents of crystals that were not trained on, (m, d).
            fractions: Atomic fractions of all training crystals, (n, 103); None where not all are crystals.
            volumes: Their volumes per atom, (n,) [A^3].
        """
        latents = training.astype(np.float16)
        reach = float(np.quantile(nearest(calibration.astype(np.float16), latents, 1)[1], _NEAR))
        reach = max(reach, _LEAST_REACH)
        if fractions is None or volumes is None:
            return cls(latents, reach)
        x, y = fractions.astype(np.float64), np.log(volumes)
        ridge = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ (y - y.mean()))
        usual = np.quantile(y - y.mean() - x @ ridge, _USUAL_VOLUMES)
        return cls(latents, reach, np.append(ridge, y.mean()), usual)

    def distance(self, latents: np.ndarray) -> np.ndarray:
        """Return the distance from the nearest training crystal of the sample, (m,), in units of `reach`."""
        return nearest(latents.astype(np.float16), self.latents, 1)[1][:, 0] / self.reach

    def usual_volume(self, fractions: np.ndarray) -> np.ndarray:
        """Return the volumes per atom that the elements usually take, (m,) [A^3], from atomic fractions (m, 103).

        Raises a TypeError where the training materials were not all crystals.
        """
        if self.volume is None:
            raise TypeError("volumes are known of crystals alone")
        found: np.ndarray = np.exp(fractions @ self.volume[:-1] + self.volume[-1])
        return found

    def expansion(self, fractions: np.ndarray, volumes: np.ndarray) -> np.ndarray:
        """Return volumes over those that the elements usually take, (m,), from fractions (m, 103) and [A^3] per atom.

        It is 1 where the volume is in the usual range, or where no volumes are known.
        """
        if self.usual is None:
            return np.ones(len(volumes))
        log = np.log(volumes / self.usual_volume(fractions))
        return np.where((log < self.usual[0]) | (log > self.usual[1]), np.exp(log), 1.0)


def cautions(
    numbers: np.ndarray, crystal: Crystal | None, seen: Collection[str], *, distance: float = 0.0,
    expansion: float = 1.0, metal_with_dielectric: bool = False, gaps: tuple[float, float] = (0.0, 0.0),
) -> Iterator[str]:  # fmt: skip
    """Yield what to be careful about in the predictions for a material.

    Args:
        numbers: Atomic numbers of its elements, in any order.
        crystal: The crystal; None where a formula alone is known.
        seen: Symbols of the elements of the training.
        distance: See `Domain.distance`.
        expansion: See `Domain.expansion`.
        metal_with_dielectric: Whether a dielectric constant is predicted beside a gap of zero.
        gaps: Predicted gaps, OptB88vdW and MBJ [eV].
    """
    if crystal is not None and crystal.note:
        yield crystal.note
    if unseen := sorted({SYMBOLS[number - 1] for number in numbers.tolist()} - set(seen)):
        yield f"elements never trained on: {', '.join(unseen)}"
    if distance > 1:
        yield f"unlike the training {'materials' if crystal is None else 'crystals'} (domain distance {distance:.2g})"
    if crystal is not None and crystal.volume_per_atom > MAX_VOLUME_PER_ATOM:
        yield f"{crystal.volume_per_atom:.0f} A^3 per atom: atoms stand apart"
    elif crystal is not None and expansion != 1:
        yield f"odd volume: {crystal.volume_per_atom:.3g} A^3 per atom, {expansion:.2g} times what its elements take"
    if metal_with_dielectric:
        yield "predicted to be a metal: its dielectric constant has no meaning"
    if min(gaps) == 0 and max(gaps) > _OPENED:
        yield f"the two gaps contradict each other: {gaps[0]:.3g} eV (OptB88vdW), {gaps[1]:.3g} eV (MBJ)"
