"""`crystrata evaluate`: the metrics of any model on a split or a labelled table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crystrata.cli.parsing import Parser, add_models_dir, run_verb, terminal
from crystrata.errors import UsageError
from crystrata.runs.config import RunConfig
from crystrata.settings import add_flag

_DATA = ("source", "data_file", "release", "data_dir", "splits_file", "device", "workers")
_METAVARS = {"data_file": "FILE", "splits_file": "FILE", "data_dir": "DIR"}
_EXAMPLES = (
    "--model jarvis-nine-union --split union --data-file dft_3d.parquet",
    "--model models/tasks_mlp/run_mine --table measured.csv",
)


def build_parser(program: str = "crystrata evaluate") -> Parser:
    """Return the parser of the verb."""
    description = "Print the metrics of a model, shipped or your own, on a split or on a labelled table."
    parser = Parser(program, description, _EXAMPLES)
    parser.add_argument(
        "--model", required=True, metavar="MODEL",
        help="name of a shipped model, best, latest, a run directory, a weights file, or the folder of a model",
    )  # fmt: skip
    add_models_dir(parser, words="folder of all runs (default: models)")
    add_flag(parser, RunConfig, "split", default=None, metavar="NAME")
    parser.add_argument("--part", default="test", choices=("val", "test"), help="part of the split (default: test)")
    parser.add_argument("--table", metavar="FILE", help="table of labels, in the columns that the model names")
    parser.add_argument(
        "--id", metavar="COLUMN", help="column of ids or compositions in the table (default: composition)"
    )
    for name in _DATA:
        add_flag(parser, RunConfig, name, metavar=_METAVARS.get(name))
    parser.add_argument("--output", metavar="FILE", help="write the metrics as JSON")
    return parser


def main(arguments: Sequence[str] | None = None, program: str = "crystrata evaluate") -> int:
    """Parse the flags and evaluate; return the exit code."""
    flags = build_parser(program).parse_args(arguments)
    return run_verb(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> int:
    if flags.table and flags.split:
        raise UsageError("--table and --split contradict each other: a table is evaluated as a whole")
    from dataclasses import replace

    from crystrata.files import write_json
    from crystrata.prediction.trained_model import load_model
    from crystrata.runs.config import OWN_TABLES
    from crystrata.runs.find import find_model
    from crystrata.workflows.evaluate_model import config_of_model, evaluate_model

    model = load_model(find_model(flags.models_dir, flags.model), flags.device or "auto")
    fields: dict[str, Any] = {name: getattr(flags, name) for name in (*_DATA, "split")}
    config = config_of_model(model, **fields)
    if flags.table:
        column = {} if flags.id is None else {"composition_column": flags.id}
        labelled = [task for task in config.tasks if task.columns]
        tasks = tuple(replace(task, data_files=(flags.table,), predict_idx=None, **column) for task in labelled)
        config = replace(config, tasks=tasks, mode=OWN_TABLES, split="test-all", splits_file=None, outlier_filter=False)
    console = terminal()
    console.print(f"model: {model.path}", soft_wrap=True)
    metrics = evaluate_model(model, config, flags.part, console)
    if flags.output:
        write_json(Path(flags.output), metrics)
        console.print(f"Metrics: {flags.output}", soft_wrap=True)
    return 0
