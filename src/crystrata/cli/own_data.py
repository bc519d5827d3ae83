"""`crystrata train --table`: a network for a number of one's own, from one's own structures or formulas."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from crystrata.cli.parsing import Parser, command_line, run_verb, terminal
from crystrata.runs.config import RunConfig
from crystrata.settings import add_flag, checked_flags

OVERRIDES = ("epochs", "lr", "batch_size", "optimizer", "weight_decay", "patience", "split", "strict_start", "seed",
             "device", "workers", "data_dir", "run_id", "time_budget")  # fmt: skip
_METAVARS = {"split": "NAME", "data_dir": "DIR", "run_id": "NAME", "time_budget": "HOURS"}
_EXAMPLES = (
    "--table my.csv --structures cifs/ --id file --target seebeck --unit uV/K",
    "--table my.csv --structures cifs.zip --target seebeck --target phase:class --freeze encoder",
    "--table alloys.xlsx --id formula --target hardness",
)


def build_parser(program: str) -> Parser:
    """Return the parser of the flags for data of one's own."""
    parser = Parser(
        program,
        "Train a network for columns of your own table. Rows that cannot be used are listed in rejected.csv of the "
        "run. With structures it starts from the shipped model; the epochs follow from the number of labels.",
        _EXAMPLES,
    )
    data = parser.add_argument_group("your data")
    data.add_argument("--table", required=True, metavar="FILE", help="csv, tsv, xlsx, parquet, json or jsonl")
    data.add_argument(
        "--structures", metavar="PATH", help="folder, archive or file of structures; without them formulas are read"
    )
    data.add_argument("--id", metavar="COLUMN", help="column of file names, ids or formulas (default: found)")
    data.add_argument(
        "--target", action="append", metavar="COLUMN", help="column to learn, or COLUMN:class; several are allowed"
    )
    data.add_argument("--unit", action="append", metavar="UNIT", help="unit of each target, in their order")
    how = parser.add_argument_group("training")
    how.add_argument("--start", metavar="MODEL", help="model to start from, or none (default: the shipped jarvis-nine)")
    how.add_argument(
        "--freeze", default="none", metavar="{none,encoder}", help="encoder: train the heads alone (default: none)"
    )
    for name in OVERRIDES:
        add_flag(how, RunConfig, name, metavar=_METAVARS.get(name))
    add_flag(how, RunConfig, "models_dir", default="models", metavar="DIR")
    return parser


def main(arguments: Sequence[str], program: str) -> int:
    """Parse the flags and train; return the exit code."""
    flags = build_parser(program).parse_args(arguments)
    return run_verb(lambda: _run(flags, command_line(program, arguments)))


def _run(flags: argparse.Namespace, command: list[str]) -> int:
    overrides = checked_flags(flags, RunConfig, OVERRIDES)
    from crystrata.workflows.own_data import own_config
    from crystrata.workflows.run import run

    config = own_config(
        Path(flags.table), None if flags.structures is None else Path(flags.structures), flags.target or [],
        id_column=flags.id, units=flags.unit or [], start=flags.start, freeze=flags.freeze,
        models_dir=flags.models_dir, **overrides,
    )  # fmt: skip
    run(config, command, terminal())
    return 0
