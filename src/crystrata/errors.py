"""One exception family: every message says what is wrong, where, and how to fix it."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable


class CrystrataError(Exception):
    """Base of every error a user can cause. Commands print it as one line and exit with `exit_code`."""

    exit_code = 2


class UsageError(CrystrataError):
    """Flags, configuration keys or names that cannot be used as given."""


class InputError(CrystrataError):
    """A structure, table or folder given by the user cannot be used."""


class DataError(CrystrataError):
    """A data source, download or store is missing, damaged or of the wrong form."""


class OfflineError(DataError):
    """A download needs a network, and none is reachable."""


class ModelError(CrystrataError):
    """A trained model is missing, damaged or does not fit the request."""


class TrainingError(CrystrataError):
    """A training run cannot start or go on."""

    exit_code = 1


class StorageError(CrystrataError):
    """A file cannot be written (disk full, no permission); what was there before is untouched."""

    exit_code = 1


class Interrupted(BaseException):
    """The signal `signum` stopped the work. No `Exception`: whatever goes on after an error must not after this."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum, self.exit_code = signum, 128 + signum


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, or an empty string."""
    names = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.5)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def unknown_name(kind: str, name: object, known: Iterable[str], older: Iterable[str] = ()) -> UsageError:
    """Build the error for an unknown name: it gives the nearest known or older one, and lists the known ones."""
    known = list(known)
    return UsageError(f"unknown {kind} {name!r}{nearest(str(name), [*known, *older])} (known: {', '.join(known)})")
