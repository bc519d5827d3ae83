"""Verbs that carry out several runs: `crystrata matrix` trains every tier as nine specialists and a multi-task model,
beside the baseline; `crystrata continual` learns tasks one after another, or trains heads alone.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crystrata.cli.parsing import Parser, command_line, names_of, run_verb, terminal
from crystrata.errors import UsageError, unknown_name
from crystrata.presets import ALGORITHMS, LEVELS
from crystrata.runs.cells import MULTI, TIERS, Cell, matrix_cells
from crystrata.sources import SOURCES

SOME_FAILED = 1
_OVERRIDES = ("epochs", "max_samples", "seed", "source", "data_file", "data_dir", "models_dir", "device", "workers")


def matrix(arguments: Sequence[str] | None = None, program: str = "run_matrix.py") -> int:
    """Parse the flags and train the cells; return the exit code: 0, 1 if a cell failed, 2 for a wrong call."""
    parser = Parser(
        prog=program,
        description="Train the model matrix: every tier as one e3nn specialist per property and one e3nn network for "
        "all nine, beside CGCNN for all nine. Interrupted cells continue from their checkpoint. "
        "The table is models/matrix.md, .csv and .html.",
        examples=("--tiers lite --source demo", "--tiers std,pro --data-file dft_3d.parquet --only-missing"),
    )
    what = parser.add_argument_group("cells")
    what.add_argument("--tiers", default=",".join(TIERS), metavar="A,B", help=f"some of {', '.join(LEVELS)}")
    what.add_argument(
        "--properties", metavar="A,B",
        help=f"single-task cells of these, and `{MULTI}` for the multi-task cells (default: all nine and {MULTI})",
    )  # fmt: skip
    what.add_argument("--algorithms", default=",".join(ALGORITHMS), metavar="A,B", help="tracks")
    what.add_argument("--only-missing", action="store_true", help="pass over cells that a completed run fills")
    what.add_argument("--max-hours", type=float, metavar="X", help="start no further cell once X hours have passed")
    what.add_argument("--dry-run", action="store_true", help="print the command of each cell and stop")
    _add_overrides(parser.add_argument_group("every cell"))
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _run_matrix(flags, command_line(program, arguments)))


def _add_overrides(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, metavar="N", help="passes over the training part")
    group.add_argument("--max-samples", type=int, metavar="N", help="crystals in all parts together")
    group.add_argument("--seed", type=int, metavar="N", help="of split, order and weights")
    group.add_argument("--source", metavar="{auto,jarvis,demo}", help="where crystals come from")
    group.add_argument("--data-file", metavar="FILE", help="local dft_3d file: json, json.gz, json.zip or parquet")
    group.add_argument("--data-dir", metavar="DIR", help="downloads, graph stores and hulls")
    group.add_argument("--models-dir", metavar="DIR", help="folder of all runs")
    group.add_argument("--device", metavar="{auto,cpu,cuda}", help="where to compute")
    group.add_argument("--workers", type=int, metavar="N", help="processes that load and build graphs")


def cells_of(flags: argparse.Namespace) -> tuple[list[Cell], list[Cell]]:
    """Return the cells that flags ask for, and all cells that the table knows with the same settings."""
    if flags.source is not None and flags.source not in SOURCES:
        raise unknown_name("source", flags.source, SOURCES)
    if flags.source == "demo" and flags.data_file:
        raise UsageError("--source demo and --data-file contradict each other: give one")
    if flags.max_hours is not None and not flags.max_hours > 0:
        raise UsageError(f"--max-hours must be positive, not {flags.max_hours:g}")
    overrides = {name: getattr(flags, name) for name in _OVERRIDES}
    tiers, properties = names_of(flags.tiers), names_of(flags.properties) if flags.properties else None
    cells = matrix_cells(tiers, properties, names_of(flags.algorithms), **overrides)
    return cells, matrix_cells((*TIERS, *tiers), **overrides)


def _run_matrix(flags: argparse.Namespace, command: list[str]) -> int:
    cells, known = cells_of(flags)
    if flags.dry_run and not flags.only_missing:
        return _print_cells(cells)
    from crystrata.workflows.matrix import open_matrix, run_matrix

    console = terminal(stderr=flags.dry_run)
    matrix = open_matrix(cells, known, console)
    if flags.dry_run:
        return _print_cells(matrix.missing())
    failed = run_matrix(matrix, command, console, only_missing=flags.only_missing, max_hours=flags.max_hours)
    return SOME_FAILED if failed else 0


def _print_cells(cells: Sequence[Cell]) -> int:
    for cell in cells:
        print(f"{cell.name:32} {shlex.join(cell.command)}")
    print(f"{len(cells)} cells")
    return 0


def build_continual_parser(program: str = "crystrata continual") -> Parser:
    """Return the parser of the verb."""
    parser = Parser(
        prog=program,
        description="Learn tasks one after another with one network, replaying a little of the earlier ones, and "
        "report what was forgotten. The same command continues a continual learning that was interrupted. With "
        "--finetune-heads, train some heads of its final model alone.",
        examples=(
            "--config examples/continual/demo.toml --data-file dft_3d.parquet",
            "--config examples/continual/demo.toml --finetune-heads band_gap",
        ),
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="TOML file with a table [continual]")
    parser.add_argument("--output", metavar="DIR", help="folder of the results, in place of the one in the file")
    parser.add_argument("--data-file", metavar="FILE", help="JARVIS file (default: what CRYSTRATA_JARVIS names)")
    parser.add_argument("--curves-file", metavar="FILE", help="parquet of phonon densities of states: jid, ph_dos")
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the training part in each step")
    parser.add_argument("--without-replay", action="store_true", help="replay nothing, to see what is forgotten")
    parser.add_argument("--finetune-heads", metavar="A,B", help="train these heads alone, all else frozen")
    parser.add_argument("--checkpoint", metavar="FILE", help="weights to fine-tune (default: its final_model.pt)")
    return parser


def continual(arguments: Sequence[str] | None = None, program: str = "crystrata continual") -> int:
    """Parse the flags and run; return the exit code."""
    flags = build_continual_parser(program).parse_args(arguments)
    return run_verb(lambda: _run_continual(flags, command_line(program, arguments)))


def _run_continual(flags: argparse.Namespace, command: list[str]) -> int:
    from crystrata.runs.continual_config import read_continual
    from crystrata.workflows.continual import finetune_heads, run_continual

    if flags.checkpoint and not flags.finetune_heads:
        raise UsageError("--checkpoint goes with --finetune-heads: continual learning starts from nothing")
    given: dict[str, Any] = {name: getattr(flags, name) for name in ("output", "data_file", "curves_file")}
    if flags.without_replay:
        given |= {"replay": 0.0, "replay_by_task": {}}
    if not flags.finetune_heads:
        run_continual(read_continual(Path(flags.config), epochs=flags.epochs, **given), command, terminal())
        return 0
    checkpoint = Path(flags.checkpoint) if flags.checkpoint else None
    config, heads = read_continual(Path(flags.config), **given), names_of(flags.finetune_heads)
    finetune_heads(config, heads, command, terminal(), checkpoint=checkpoint, epochs=flags.epochs)
    return 0
