"""Verbs about completed runs: `crystrata ensemble` makes one model of several, `export` a folder to share, and
`leaderboard` a contribution to the JARVIS leaderboard.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from crystrata.cli.parsing import Parser, add_models_dir, command_line, run_verb, terminal
from crystrata.errors import UsageError
from crystrata.runs.find import PRETRAINED
from crystrata.runs.manifest import read_manifest


def ensemble(arguments: Sequence[str] | None = None, program: str = "crystrata ensemble") -> int:
    """Parse the flags and make the ensemble; return the exit code."""
    parser = Parser(
        program,
        "Make one model of completed runs of one split, such as one of all properties and some that were "
        "started from it for a property each. Each property is predicted by the network, or the mean of up to three, "
        "with the lowest error on the validation part; the result is a run directory like any other.",
        ("models/multitask_pro_e3nn/run_a models/multitask_pro_e3nn/run_b", "RUN RUN RUN --run-id best_of_three"),
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="directories of completed runs")
    add_models_dir(parser)
    parser.add_argument("--run-id", metavar="NAME", help="name of the run directory (default: time and a short id)")
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _ensemble(flags, command_line(program, arguments)))


def _ensemble(flags: argparse.Namespace, command: list[str]) -> int:
    from crystrata.workflows.ensemble import ensemble_runs

    ensemble_runs([Path(run) for run in flags.runs], flags.models_dir, command, terminal(), flags.run_id)
    return 0


def export(arguments: Sequence[str] | None = None, program: str = "crystrata export") -> int:
    """Parse the flags and export; return the exit code: 0, 1 if nothing can be written, 2 for a wrong call."""
    parser = Parser(
        program,
        "Make the shareable folder of a completed run: weights as safetensors, a description as JSON, and "
        "a model card. `crystrata predict --model NAME` predicts with it.",
        ("models/multitask_pro_e3nn/run_a --name mine", "RUN --output shared --figures-of OTHER_RUN"),
    )
    parser.add_argument("run", metavar="RUN", help="directory of a completed run")
    parser.add_argument("--output", default=f"models/{PRETRAINED}", metavar="DIR", help="where the folder is made")
    parser.add_argument("--name", metavar="NAME", help="its name (default: that of the run)")
    parser.add_argument(
        "--figures-of", metavar="RUN",
        help="run of the same kind whose official tests the model card gives, where RUN was trained on the tests",
    )  # fmt: skip
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _export(flags))


def _export(flags: argparse.Namespace) -> int:
    from crystrata.workflows.export import export_model

    evaluated = Path(flags.figures_of) if flags.figures_of else None
    folder = export_model(Path(flags.run), Path(flags.output), flags.name, evaluated)
    terminal().print(f"exported: {folder}", soft_wrap=True)
    return 0


def leaderboard(arguments: Sequence[str] | None = None, program: str = "crystrata leaderboard") -> int:
    """Parse the flags and write the contribution; return the exit code."""
    parser = Parser(
        program,
        "Write the folder that a pull request to the JARVIS leaderboard adds under contributions/: the "
        "predictions of every whole official test of a run, metadata.json and run.sh. Everything is checked first.",
        (
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
    return run_verb(lambda: _leaderboard(flags))


def _leaderboard(flags: argparse.Namespace) -> int:
    run = Path(flags.run)
    manifest = read_manifest(run)
    name = flags.model_name or f"crystrata_{manifest['algorithm']}_{manifest['mode']}"
    if "@" not in flags.email:
        raise UsageError(f"--email must be an address, not {flags.email!r}")
    if Path(name).name != name or name.startswith("."):
        raise UsageError(f"--model-name must be a plain name, not {name!r}: the folder has it")
    from crystrata.reports.leaderboard import Contributor, write_contribution

    git = tuple(flags.git_url or [flags.url])
    contributor = Contributor(name, flags.team, flags.email, flags.url, git, flags.hardware)
    folder = Path(flags.output) if flags.output else Path("contributions") / name
    console = terminal()
    for file, mae in write_contribution(run, contributor, folder).items():
        console.print(f"{file}: MAE {'unknown' if mae is None else f'{mae:.4f}'}", soft_wrap=True)
    console.print(f"Contribution: {folder}", soft_wrap=True)
    return 0
