"""`crystrata export`: a completed run becomes a folder to share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from crystrata.cli.parsing import Parser, run_verb, terminal
from crystrata.runs.shipped import PRETRAINED


def main(arguments: Sequence[str] | None = None, program: str = "crystrata export") -> int:
    """Parse the flags and export; return the exit code: 0, 1 if nothing can be written, 2 for a wrong call."""
    parser = Parser(
        prog=program,
        description="Make the shareable folder of a completed run: weights as safetensors, a description as JSON, and "
        "a model card. `crystrata predict --model NAME` predicts with it.",
        examples=(
            "models/multitask_pro_e3nn/run_a --name mine",
            "RUN --output shared --figures-of OTHER_RUN",
        ),
    )
    parser.add_argument("run", metavar="RUN", help="directory of a completed run")
    parser.add_argument("--output", default=f"models/{PRETRAINED}", metavar="DIR", help="where the folder is made")
    parser.add_argument("--name", metavar="NAME", help="its name (default: that of the run)")
    parser.add_argument(
        "--figures-of", metavar="RUN",
        help="run of the same kind whose official tests the model card gives, where RUN was trained on the tests",
    )  # fmt: skip
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> int:
    from crystrata.workflows.export import export_model

    evaluated = Path(flags.figures_of) if flags.figures_of else None
    folder = export_model(Path(flags.run), Path(flags.output), flags.name, evaluated)
    terminal().print(f"exported: {folder}", soft_wrap=True)
    return 0
