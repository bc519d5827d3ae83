"""`crystrata continual`: tasks are learned one after another, earlier ones replayed; or heads are trained alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crystrata.cli.parsing import Parser, command_line, run_verb, terminal
from crystrata.errors import UsageError


def build_parser(program: str = "crystrata continual") -> Parser:
    """Return the parser of the verb."""
    parser = Parser(
        prog=program,
        description="Learn tasks one after another with one network, replaying a little of the earlier ones, and "
        "report what was forgotten. The same command continues a continual learning that was interrupted. With "
        "--finetune-heads, train some heads of its final model alone.",
        examples=(
            "--config examples/rehearsal/demo.toml --data-file dft_3d.parquet",
            "--config examples/rehearsal/demo.toml --finetune-heads band_gap",
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


def main(arguments: Sequence[str] | None = None, program: str = "crystrata continual") -> int:
    """Parse the flags and run; return the exit code."""
    flags = build_parser(program).parse_args(arguments)
    return run_verb(lambda: _run(flags, command_line(program, arguments)))


def _run(flags: argparse.Namespace, command: list[str]) -> int:
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
    heads = [name.strip() for name in flags.finetune_heads.split(",") if name.strip()]
    checkpoint = Path(flags.checkpoint) if flags.checkpoint else None
    config = read_continual(Path(flags.config), **given)
    finetune_heads(config, heads, command, terminal(), checkpoint=checkpoint, epochs=flags.epochs)
    return 0
