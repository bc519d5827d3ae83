"""Starting the workers, taking rounds in turn, and the statistics of what they answer."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

HERE = Path(__file__).resolve().parent
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""Settings of glibc's allocator: large blocks are kept and used again."""


@dataclass(frozen=True)
class Contestant:
    """One row of the benchmark.

    Attributes:
        key: Short name, for `--rows` and for ratios.
        group: Table it stands in.
        label: What it is, for the reader.
        module: Adapter in this folder.
        function: Function of the adapter that prepares the case from a sample.
        options: Its further arguments.
        plain: Keep the default settings of the allocator.
    """

    key: str
    group: str
    label: str
    module: str
    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = False


@dataclass
class Measured:
    """What came out for a contestant.

    Attributes:
        contestant: The contestant.
        crystals: Crystals per round.
        facts: What its worker told.
        seconds: CPU seconds of each round.
        problem: Why there are no rounds; empty where there are.
    """

    contestant: Contestant
    crystals: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    problem: str = ""

    def per_crystal(self, unit: float) -> list[float]:
        """CPU time per crystal of each round, in units of so many seconds."""
        return [value / self.crystals / unit for value in self.seconds]


class Worker:
    """A contestant's process.

    Args:
        contestant: The contestant.
        interpreters: Pythons to try, in this order, until one has what the adapter imports.
        sample: File of the crystals.
        log: Where its standard error goes.
    """

    def __init__(self, contestant: Contestant, interpreters: Sequence[str], sample: Path, log: TextIO) -> None:
        self.measured = Measured(contestant)
        for interpreter in interpreters:
            arguments = ["peers.worker", contestant.module, contestant.function,
                         json.dumps(dict(contestant.options)), str(sample)]  # fmt: skip
            self._process = start(interpreter, arguments, sample.parent, log, contestant.plain)
            answer = self._answer()
            if "ready" in answer:
                self.measured.crystals, self.measured.facts = answer["ready"]["crystals"], answer["ready"]["facts"]
                self.measured.problem = ""
                return
            self.stop()
            self.measured.problem = answer.get("failed") or f"not installed: {answer['absent']}"
            if "failed" in answer:
                return

    def round(self) -> None:
        """Time one round; a worker that ends instead gets no more."""
        if self.measured.problem:
            return
        try:
            self._process.stdin.write("round\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
            answer = self._answer()
        except BrokenPipeError:
            answer = {"failed": "the worker ended"}
        if "seconds" in answer:
            self.measured.seconds.append(answer["seconds"])
        else:
            self.measured.problem = answer["failed"]

    def stop(self) -> None:
        """End the process."""
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        return json.loads(line) if line else {"failed": "the worker ended without an answer"}


def start(
    interpreter: str, module: Sequence[str], folder: Path, log: TextIO, plain: bool = False
) -> subprocess.Popen[str]:
    """Start a module of this folder, with its arguments, in a process with one thread.

    Args:
        interpreter: Its Python.
        module: Name and arguments.
        folder: Where it runs and compiles.
        log: Where its standard error goes.
        plain: Keep the default settings of the allocator.
    """
    paths = os.pathsep.join([str(HERE.parent), str(HERE.parent.parent / "src")])
    compiled = str(folder / "compiled")  # so that nothing compiled earlier is found
    environment = {**os.environ, **ONE_THREAD, **({} if plain else ALLOCATOR), "PYTHONPATH": paths,
                   "TORCHINDUCTOR_CACHE_DIR": compiled}  # fmt: skip
    return subprocess.Popen(
        [interpreter, "-m", *module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=environment,
        cwd=folder,
    )


def contest(
    contestants: Sequence[Contestant],
    interpreters: Sequence[str],
    sample: Path,
    rounds: int,
    progress: Callable[[str], None],
) -> list[Measured]:
    """Let contestants take rounds in turn, so that the noise of the machine hits all alike.

    Args:
        contestants: Who takes part.
        interpreters: Pythons to try for each.
        sample: File of the crystals; logs of the workers go beside it.
        rounds: Rounds of each.
        progress: Called with a line about each step.
    """
    workers: list[Worker] = []
    with open(sample.with_suffix(".log"), "a", encoding="utf-8") as log:
        for contestant in contestants:
            progress(f"prepare {contestant.key}")
            workers.append(Worker(contestant, interpreters, sample, log))
            if workers[-1].measured.problem:
                progress(f"{contestant.key}: {workers[-1].measured.problem}")
        for number in range(rounds):
            for worker in workers:
                progress(f"round {number + 1} of {rounds}: {worker.measured.contestant.key}")
                worker.round()
        for worker in workers:
            if not worker.measured.problem:
                worker.stop()
    return [worker.measured for worker in workers]


def ratios(slow: Measured, fast: Measured) -> list[float]:
    """Return how many times faster one is than the other, per crystal, round by round."""
    return [a / b for a, b in zip(slow.per_crystal(1), fast.per_crystal(1), strict=True)]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the least, the median and the greatest value."""
    return min(values), statistics.median(values), max(values)
