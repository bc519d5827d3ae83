"""`crystrata design study`: several searches for each scenario, compared in tables and figures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from crystrata.cli.parsing import Parser, run_verb, terminal


def build_parser(program: str = "crystrata design study") -> Parser:
    """Return the parser of the verb."""
    parser = Parser(
        prog=program,
        description="Compare latent and composition searches for several scenarios, from the same seeds, in tables and "
        "figures. The same command continues an interrupted study.",
        examples=(
            "--config examples/design/three_scenarios.toml",
            "--config study.toml --model jarvis-compositions",
        ),
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="TOML file with a table [study]")
    parser.add_argument(
        "--model", "--checkpoint", dest="model", metavar="MODEL",
        help="model of compositions: a completed run, a weights file beside its split such as `final_model.pt`, or the "
        "name or folder of a shipped model; takes precedence over the file",
    )  # fmt: skip
    parser.add_argument("--output", metavar="DIR", help="folder of the study; takes precedence over the file")
    parser.add_argument("--models-dir", default="models", metavar="DIR", help="folder of all runs")
    parser.add_argument("--device", default="auto", metavar="{auto,cpu,cuda}", help="where to compute")
    return parser


def main(arguments: Sequence[str] | None = None, program: str = "crystrata design study") -> int:
    """Parse the flags and run the study; return the exit code."""
    flags = build_parser(program).parse_args(arguments)
    return run_verb(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> int:
    from crystrata.design.study_config import read_study
    from crystrata.runs.find import find_model
    from crystrata.workflows.study import run_study

    config = read_study(Path(flags.config), model=flags.model, output=flags.output)
    run_study(config, find_model(Path(flags.models_dir), config.model), terminal(), flags.device)
    return 0
