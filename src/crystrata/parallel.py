"""Work spread over processes: results in order, bounded memory, and no process that outlives its parent."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from crystrata.errors import DataError

Part = TypeVar("Part")
Result = TypeVar("Result")


def map_ordered(work: Callable[[Part], Result], parts: Iterable[Part], workers: int) -> Iterator[Result]:
    """Yield `work(part)` of one part after the other; a DataError if a process was killed.

    `work` is a function of a module, or a `partial` of one; only a few parts a worker are taken ahead. With 0 workers
    this process works.
    """
    if workers == 0:
        yield from map(work, parts)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(work, part))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise DataError(
                "a worker process was killed, most often for lack of memory. Start again with fewer --workers."
            ) from None


def _end_with_parent() -> None:
    """End this process when its parent is gone: a killed parent cannot tell it, and it would wait for work for ever."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()
