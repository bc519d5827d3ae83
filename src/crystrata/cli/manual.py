"""Keeps the manual's tables equal to the code: `python -m crystrata.cli.manual OPERATION_MANUAL.md`.

Every block between `<!-- table: name -->` and `<!-- end -->` is rewritten by the generator of that name.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from crystrata.cli import design, evaluate, own_data, several_runs, train, trainer
from crystrata.cli.parsing import Parser, run_verb
from crystrata.design.study_config import Scenario, SeedChoice, StudyConfig
from crystrata.errors import InputError, unknown_name
from crystrata.files import write_text
from crystrata.reports import manual
from crystrata.runs.config import RunConfig, TrainerArguments
from crystrata.runs.continual_config import ContinualConfig
from crystrata.tasks import Task
from crystrata.workflows.documents.older_keys import FIXED, RENAMED, TRAINER

_BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(?=<!-- end -->|<!-- table: |\Z)", re.DOTALL)
_END = "<!-- end -->"


def flags(parser: argparse.ArgumentParser) -> str:
    """Return the flags of a parser as markdown, one table for each of its groups."""
    parts = []
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.option_strings and action.dest != "help"]
        if actions:
            rows = [[_spelled(action), _default(action), _meaning(action)] for action in actions]
            title = f"*{group.title}*\n\n" if group.title != "options" else ""
            parts.append(title + manual.table(("flag", "default", "meaning"), rows))
    return "\n".join(parts)


def _spelled(action: argparse.Action) -> str:
    value = action.metavar or action.dest.upper()
    shape = {0: "", "?": f" [{value}]", "+": f" {value} ..."}.get(action.nargs or "", f" {value}")
    name = next(one for one in action.option_strings if one.startswith("--"))
    return manual.code(name + ("" if action.nargs == 0 else shape))


def _meaning(action: argparse.Action) -> str:
    """Return the help without the default, which has a column of its own."""
    text = (action.help or "").replace("%%", "%")
    return text if _default(action) is None else text.removesuffix(f" (default: {action.default})")


def _default(action: argparse.Action) -> str | None:
    return None if action.default is None or action.default is False else manual.code(action.default)


TABLES: dict[str, Callable[[], str]] = {
    "levels-e3nn": partial(manual.levels, "e3nn"),
    "levels-cgcnn": partial(manual.levels, "cgcnn"),
    "profiles": manual.profiles,
    "sizes": manual.sizes,
    "training": manual.training,
    "properties": manual.properties,
    "groups": manual.groups,
    "artifacts": manual.artifacts,
    "formats": manual.formats,
    "releases": manual.releases,
    "splits": manual.splits,
    "rejections": manual.rejections,
    "exit-codes": manual.exit_codes,
    "continual": partial(manual.keys, ContinualConfig),
    "flags-continual": lambda: flags(several_runs.build_continual_parser()),
    "flags-design": lambda: flags(design.build_parser()),
    "study": partial(manual.keys, StudyConfig),
    "study-scenarios": partial(manual.keys, Scenario),
    "study-seeds": partial(manual.keys, SeedChoice),
    "flags-study": lambda: flags(design.build_study_parser()),
    "flags": lambda: flags(train.build_parser(train.EntryPoint())),
    "yaml-flags": lambda: flags(trainer.build_parser()),
    "flags-own": lambda: flags(own_data.build_parser("crystrata train")),
    "flags-evaluate": lambda: flags(evaluate.build_parser()),
    "yaml-run": partial(manual.keys, RunConfig),
    "yaml-task": partial(manual.keys, Task),
    "descriptors": manual.descriptors,
    "yaml-trainer": partial(manual.keys, TrainerArguments),
    "yaml-trainer-fixed": partial(manual.fixed, FIXED),
    "yaml-older": partial(manual.spellings, {"trainer": TRAINER, "model.init_args": RENAMED}),
}
"""Name of a block -> what makes its content."""


def refreshed(text: str) -> str:
    """Return a document with every block made again; one without an end, or with an unknown name, is an error."""

    def block(match: re.Match[str]) -> str:
        name = match[2]
        if name not in TABLES:
            raise unknown_name("table", name, TABLES)
        if not text.startswith(_END, match.end()):
            raise InputError(f"the block of table {name!r} has no end: write {_END} after it")
        return f"{match[1]}\n{TABLES[name]()}\n"

    return _BLOCK.sub(block, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the blocks of documents in place; return the exit code."""
    parser = Parser(prog="python -m crystrata.cli.manual", description="Make the tables of documents again.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="markdown files with table blocks")
    files = parser.parse_args(arguments).files
    return run_verb(lambda: _rewrite(files))


def _rewrite(files: Sequence[Path]) -> int:
    for file in files:
        try:
            before = file.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror or error}") from None
        after = refreshed(before)
        if after != before:
            write_text(file, after)
        print(f"{file}: {'refreshed' if after != before else 'up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
