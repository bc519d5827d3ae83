"""The argument parser of every verb, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import argparse
import io
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from crystrata.errors import CrystrataError, Interrupted, nearest
from crystrata.runs.slurm import REQUEUE_SIGNAL, requeue

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130  # as shells report Ctrl-C
UNREACHABLE = 1
NOBODY_READS = 1
"""Exit code where the reader of the output has gone (`| head`): the one that rich gives."""

_WIDTH = 79  # of the description in the help


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help whose lines break at spaces alone: the name of a flag or protocol stays in one piece."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, naming the nearest known flag for an unknown one.

    The help shows `examples`, arguments after the command, or ends with `epilog` in their place.
    """

    def __init__(self, prog: str, description: str, examples: Sequence[str] = (), epilog: str | None = None) -> None:
        shown = "\n".join(["examples:", *(f"  {prog} {arguments}" for arguments in examples)])
        super().__init__(
            prog, description=textwrap.fill(description, _WIDTH), epilog=epilog or (shown if examples else None),
            allow_abbrev=False, formatter_class=_Help,
        )  # fmt: skip

    def parse_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Parse; an unknown flag is an error that names the nearest one."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].split("=")[0]
            self.error(f"unknown argument {flag}{nearest(flag, self._option_string_actions)}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print one line and where to read more, and exit with 2."""
        print(f"{self.prog}: error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def add_models_dir(group: argparse._ActionsContainer, *older: str, words: str = "folder of all runs") -> None:
    """Add the flag of the folder in which runs are looked for: one that is given must exist, the default need not."""
    group.add_argument("--models-dir", *older, type=_existing, default=Path("models"), metavar="DIR", help=words)


def _existing(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"no such folder: {text}")
    return Path(text)


def terminal(*, stderr: bool = False) -> Console:
    """Return the console of a verb. It prints text as it is: a file may be called `[red].cif` or `:smile:`."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def run_verb(action: Callable[[], int]) -> int:
    """Run a verb and return its exit code; a user's error is one line on standard error.

    It computes with one thread unless `OMP_NUM_THREADS` asks for more: torch is imported by the verb, after this.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # steps are small: threads that wait for one another cost more
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal's encoding lacks must not end a run
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = action()
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where it can be answered, not when Python ends
        return code
    except CrystrataError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted as signal:
        print(signal, file=sys.stderr)
        if signal.signum == REQUEUE_SIGNAL:
            print(requeue(), file=sys.stderr)
        return signal.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}. Check the path and its permissions.", file=sys.stderr)
        return UNREACHABLE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def names_of(text: str | None) -> list[str]:
    """Return the names of a flag such as `A,B`."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def command_line(program: str, arguments: Sequence[str] | None) -> list[str]:
    """Return the command as typed, for the manifest."""
    return [program, *(sys.argv[1:] if arguments is None else arguments)]
