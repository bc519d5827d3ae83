"""The argument parser of every verb, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from crystrata.errors import CrystrataError, Interrupted, nearest

INTERRUPTED = 130  # as shells report Ctrl-C


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, naming the nearest known flag for an unknown one."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        keywords.setdefault("allow_abbrev", False)
        keywords.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        super().__init__(*arguments, **keywords)  # type: ignore[arg-type]

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


def run_verb(action: Callable[[], int]) -> int:
    """Run a verb and return its exit code; a user's error is one line on standard error."""
    try:
        return action()
    except CrystrataError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted as signal:
        print(signal, file=sys.stderr)
        return signal.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def command_line(program: str, arguments: Sequence[str] | None) -> list[str]:
    """Return the command as typed, for the manifest."""
    return [program, *(sys.argv[1:] if arguments is None else arguments)]
