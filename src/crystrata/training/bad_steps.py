"""Numbers that are not finite never reach the weights, and the crystals that made them are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from crystrata.errors import TrainingError

MOST_IN_A_ROW = 5
_SHOWN = 10


class NonFiniteGuard:
    """Counts steps whose loss or gradient is not finite; they are left out.

    Args:
        ids: Id of each crystal of the dataset.

    Attributes:
        steps: Steps of this epoch that were left out: number and ids of the crystals.
        in_a_row: Bad steps since the last good one.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids
        self.steps: list[dict[str, Any]] = []
        self.in_a_row = 0

    def good(self) -> None:
        """Note a step whose numbers are finite."""
        self.in_a_row = 0

    def bad(self, step: int, rows: list[int], is_finite: Callable[[int], bool]) -> str:
        """Note a step that was left out; return the line that tells of it.

        Args:
            step: Number of the step.
            rows: Its crystals, as positions in the dataset.
            is_finite: Tells of one crystal alone whether loss and gradient are finite.

        Raises:
            TrainingError: Too many in a row.
        """
        culprits = [row for row in rows if not is_finite(row)] or rows
        ids = [self.ids[row] for row in culprits]
        self.steps.append({"step": step, "ids": ids})
        self.in_a_row += 1
        shown = ", ".join(ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
        if self.in_a_row >= MOST_IN_A_ROW:
            raise TrainingError(
                f"{self.in_a_row} steps in a row without a finite loss and gradient, the last with {shown}: look at "
                "these crystals and labels, or lower --lr. The weights and the last checkpoint are untouched"
            )
        return f"step {step} left out: loss or gradient is not finite for {shown}"
