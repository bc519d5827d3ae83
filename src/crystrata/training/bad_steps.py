"""Steps that go wrong: numbers that are not finite never reach the weights, and memory that runs out is asked for in
smaller pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from crystrata.datasets.batch import Batch
from crystrata.datasets.sampling import Step
from crystrata.errors import TrainingError

MOST_IN_A_ROW = 5
_SHOWN = 10

Result = TypeVar("Result")
Collate = Callable[[Step], list[Batch]]

_WORDS = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")  # of plain RuntimeErrors


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


class MicroBatches:
    """Carries out steps in micro-batches that fit into memory.

    Label counts are those of the whole step, so a finer cut gives the same loss and gradient, up to rounding.

    Attributes:
        largest: Most crystals of a micro-batch, once memory has run out; None before.
    """

    def __init__(self) -> None:
        self.largest: int | None = None

    def carry_out(self, batches: list[Batch], work: Callable[[list[Batch]], Result], collate: Collate) -> Result:
        """Return what `work` returns for the micro-batches of a step, cut finer where memory runs out.

        Args:
            batches: The step as the loader cut it.
            work: Must start again each time that it is called; random numbers of the CPU are the same each time.
            collate: Makes micro-batches on the device of the work.

        Raises:
            RuntimeError: One crystal alone does not fit (the original error), or something else went wrong.
        """
        rows = torch.cat([batch.rows for batch in batches]).cpu().numpy()
        given = size = max(len(batch.rows) for batch in batches)
        if self.largest is not None:
            size = min(size, self.largest)
        random_state = torch.get_rng_state()
        while True:
            try:
                return work(batches if size == given else collate(Step(rows, size)))
            except (RuntimeError, MemoryError) as error:
                if size == 1 or not out_of_memory(error):
                    raise
            # Past the except block no traceback holds the graph of the failed attempt any more.
            torch.set_rng_state(random_state)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            size = self.largest = -(-size // 2)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on the CPU or on a GPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in _WORDS)
