"""What a drill is: a goal, and a function that tries many things and tallies what did not hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


class NotTried(Exception):
    """The machine cannot try this; the message says what is missing."""


@dataclass
class Tally:
    """What a drill counts.

    Attributes:
        tried: Number of attempts.
        failures: One line for each that did not hold.
    """

    tried: int = 0
    failures: list[str] = field(default_factory=list)

    def check(self, holds: bool, words: str) -> None:
        """Count one attempt; `words` say what is wrong where it does not hold."""
        self.tried += 1
        if not holds:
            self.failures.append(words)


@dataclass(frozen=True)
class Drill:
    """One row of the table of reliability.

    Attributes:
        name: Name in `--only` and in the table.
        goal: What must hold each time.
        run: Takes whether to be quick (seconds, a few attempts), a scratch folder of its own and the tally.
            Raises `NotTried` where the machine cannot try it.
    """

    name: str
    goal: str
    run: Callable[[bool, Path, Tally], None]
