"""One contestant in a process of its own: `python -m peers.worker MODULE FUNCTION OPTIONS SAMPLE`.

It prepares outside the clock, then answers each line `round` on its input with the CPU seconds of one round. Answers
are lines of JSON on the standard output; what libraries print goes to the standard error.

    -> {"ready": {"crystals": 500, "facts": {...}}}      or {"absent": "No module named ..."}, {"failed": "..."}
    <- round
    -> {"seconds": 1.25}
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import Any, TextIO

from peers.sample import Sample

LEAST_SECONDS = 0.3
"""A round repeats its work until it takes at least this long, so that the clock is fine enough."""


@dataclass(frozen=True)
class Case:
    """Work to be timed.

    Attributes:
        run: Does the work once.
        crystals: Crystals it goes through.
        facts: What a reader of the table should know: parameters, edges per atom, versions, remarks.
    """

    run: Callable[[], None]
    crystals: int
    facts: dict[str, Any] = field(default_factory=dict)


def cpu_seconds(run: Callable[[], None], times: int) -> float:
    """Return the CPU seconds of this process for doing something several times, per time."""
    started = time.process_time()
    for _ in range(times):
        run()
    return (time.process_time() - started) / times


def serve(prepare: Callable[[], Case], requests: TextIO, answers: TextIO) -> None:
    """Prepare a case and time a round for each request."""

    def say(**answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        case = prepare()
        case.run()  # what is built on first use is built here
        times = ceil(LEAST_SECONDS / max(cpu_seconds(case.run, 1), 1e-6))
    except ImportError as error:
        return say(absent=str(error))
    except Exception as error:  # the table says it; the other contestants go on
        import traceback

        traceback.print_exc()
        return say(failed=f"{type(error).__name__}: {error}".splitlines()[0])
    say(ready={"crystals": case.crystals, "facts": case.facts})
    for request in requests:
        if request.strip() != "round":
            break
        say(seconds=cpu_seconds(case.run, times))


def main() -> None:
    """Serve the contestant that the arguments name."""
    module, function, options, path = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sample = Sample.load(Path(path))
    serve(
        lambda: getattr(import_module(f"peers.{module}"), function)(sample, **json.loads(options)), sys.stdin, answers
    )


if __name__ == "__main__":
    main()
