"""Out of memory: the micro-batches of a step are halved and the step is repeated, with the same crystals."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from crystrata.datasets.sampling import Step
from crystrata.datasets.training_batch import TrainingBatch

Result = TypeVar("Result")
Collate = Callable[[Step], list[TrainingBatch]]

_WORDS = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")  # of plain RuntimeErrors


class MicroBatches:
    """Carries out steps in micro-batches that fit into memory.

    Label counts are those of the whole step, so a finer cut gives the same loss and gradient, up to rounding.

    Attributes:
        largest: Most crystals of a micro-batch, once memory has run out; None before.
    """

    def __init__(self) -> None:
        self.largest: int | None = None

    def carry_out(
        self, batches: list[TrainingBatch], work: Callable[[list[TrainingBatch]], Result], collate: Collate
    ) -> Result:
        """Return what `work` returns for the micro-batches of a step, cut finer where memory runs out.

        Args:
            batches: The step as the loader cut it.
            work: Must start anew each time that it is called; random numbers of the CPU are the same each time.
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
