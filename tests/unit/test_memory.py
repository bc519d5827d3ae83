"""Steps that do not fit into memory: halved and repeated, with the same crystals and the same random numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from crystrata.datasets.sampling import Step
from crystrata.training.bad_steps import MicroBatches, out_of_memory


def collate(step: Step) -> Any:
    return [SimpleNamespace(rows=torch.from_numpy(part)) for part in step.micro_batches()]


def test_a_step_is_cut_until_it_fits_and_stays_cut() -> None:
    seen, drawn = [], []

    def work(batches: Any) -> list[int]:
        sizes = [len(batch.rows) for batch in batches]
        seen.append(sizes)
        drawn.append(float(torch.rand(())))
        if max(sizes) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [row for batch in batches for row in batch.rows.tolist()]

    parts, rows = MicroBatches(), torch.arange(20).numpy()
    assert parts.carry_out(collate(Step(rows, 10)), work, collate) == list(range(20))
    assert seen == [[10, 10], [5] * 4, [3] * 6 + [2]]
    assert len(set(drawn)) == 1
    assert parts.largest == 3
    parts.carry_out(collate(Step(rows, 10)), work, collate)
    assert seen[3:] == [[3] * 6 + [2]]


def test_one_crystal_that_does_not_fit_and_other_errors_are_raised() -> None:
    def too_large(batches: Any) -> None:
        raise MemoryError

    def broken(batches: Any) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    for work, error in ((too_large, MemoryError), (broken, RuntimeError)):
        parts = MicroBatches()
        with pytest.raises(error):
            parts.carry_out(collate(Step(torch.arange(4).numpy(), 4)), work, collate)
        assert parts.largest == (1 if work is too_large else None)


def test_the_words_of_the_allocator_are_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert out_of_memory(caught.value)
    assert not out_of_memory(RuntimeError("a RuntimeError"))
