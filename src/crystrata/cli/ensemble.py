"""`crystrata ensemble`: completed runs of one split become one model, the best on validation for each task."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from crystrata.cli.parsing import Parser, command_line, run_verb, terminal


def main(arguments: Sequence[str] | None = None, program: str = "crystrata ensemble") -> int:
    """Parse the flags and make the ensemble; return the exit code."""
    parser = Parser(
        prog=program,
        description="Make one model of completed runs of one split, such as one of all properties and some that were "
        "started from it for a property each. Each property is predicted by the network, or the mean of up to three, "
        "with the lowest error on the validation part; the result is a run directory like any other.",
        examples=(
            "models/multitask_pro_e3nn/run_a models/multitask_pro_e3nn/run_b",
            "RUN RUN RUN --run-id best_of_three",
        ),
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="directories of completed runs")
    parser.add_argument("--models-dir", default="models", metavar="DIR", help="folder of all runs")
    parser.add_argument("--run-id", metavar="NAME", help="name of the run directory (default: time and a short id)")
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _run(flags, command_line(program, arguments)))


def _run(flags: argparse.Namespace, command: list[str]) -> int:
    from crystrata.workflows.ensemble import ensemble_runs

    ensemble_runs([Path(run) for run in flags.runs], Path(flags.models_dir), command, terminal(), flags.run_id)
    return 0
