"""What a neighbourhood is: the graph settings that every store and every model carries."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from crystrata.errors import UsageError


@dataclass(frozen=True)
class GraphSettings:
    """Settings of a smooth neighbourhood.

    Atom i sees every neighbour within R_i = min(cutoff, (1 + delta) d_k(i)), where d_k(i) is the distance of its k-th
    nearest neighbour; R_i = cutoff where fewer than k are in range. No shell is cut and no tie is broken.

    Attributes:
        k: Rank of the neighbour that sets the range.
        delta: Relative width of the shell in which an edge fades out.
        cutoff: Longest edge [A].
        angle_cutoff: Longest edge that takes part in an angle [A].
    """

    k: int = 12
    delta: float = 0.25
    cutoff: float = 8.0
    angle_cutoff: float = 4.0

    def __post_init__(self) -> None:
        lengths = (self.delta, self.cutoff, self.angle_cutoff)
        if self.k < 1 or not all(map(isfinite, lengths)) or min(lengths[:2]) <= 0 or self.angle_cutoff < 0:
            raise UsageError(
                f"graph settings out of range: {self}; k >= 1, delta > 0, cutoff > 0, angle_cutoff >= 0, all finite"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return asdict(self)
