"""`crystrata leaderboard`: a completed run as a contribution to the JARVIS leaderboard."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from crystrata.cli.parsing import Parser, run_verb, terminal
from crystrata.errors import UsageError
from crystrata.runs.manifest import read_manifest


def main(arguments: Sequence[str] | None = None, program: str = "crystrata leaderboard") -> int:
    """Parse the flags and write the contribution; return the exit code."""
    parser = Parser(
        prog=program,
        description="Write the folder that a pull request to the JARVIS leaderboard adds under contributions/: the "
        "predictions of every whole official test of a run, metadata.json and run.sh. Everything is checked first.",
        examples=(
            'RUN --team "My group" --email me@example.org --url https://example.org',
            "RUN --team T --email E --url U --output contributions",
        ),
    )
    parser.add_argument(
        "run", metavar="RUN", help="directory of a completed run, --split union or official:<benchmark>"
    )
    parser.add_argument("--team", required=True, metavar="NAME", help="who hands it in")
    parser.add_argument("--email", required=True, metavar="ADDRESS", help="where the editors can write to")
    parser.add_argument("--url", required=True, metavar="URL", help="page of the project")
    parser.add_argument("--git-url", nargs="+", metavar="URL", help="repositories of the code (default: --url)")
    parser.add_argument(
        "--model-name", metavar="NAME", help="name of the model (default: crystrata_<algorithm>_<level>)"
    )
    parser.add_argument(
        "--hardware", metavar="WORDS", help="what trained it (default: the device that the run recorded)"
    )
    parser.add_argument("--output", metavar="DIR", help="folder to write (default: contributions/<name of the model>)")
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> int:
    run = Path(flags.run)
    manifest = read_manifest(run)
    name = flags.model_name or f"crystrata_{manifest['algorithm']}_{manifest['mode']}"
    if "@" not in flags.email:
        raise UsageError(f"--email must be an address, not {flags.email!r}")
    if Path(name).name != name or name.startswith("."):
        raise UsageError(f"--model-name must be a plain name, not {name!r}: the folder has it")
    from crystrata.reports.leaderboard import Contributor, write_contribution

    contributor = Contributor(
        name, flags.team, flags.email, flags.url, tuple(flags.git_url or [flags.url]), flags.hardware
    )
    folder = Path(flags.output) if flags.output else Path("contributions") / name
    maes = write_contribution(run, contributor, folder)
    console = terminal()
    for file, mae in maes.items():
        console.print(f"{file}: MAE {'unknown' if mae is None else f'{mae:.4f}'}", soft_wrap=True)
    console.print(f"Contribution: {folder}", soft_wrap=True)
    return 0
