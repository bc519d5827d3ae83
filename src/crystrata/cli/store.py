"""`crystrata store` and `process_data_phase2.py`: build the graph store ahead of training (optional)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from crystrata.cli.parsing import Parser, run_verb, terminal
from crystrata.errors import UsageError, unknown_name
from crystrata.sources import DEFAULT_RELEASE, SOURCES


def main(arguments: Sequence[str] | None = None, program: str = "process_data_phase2.py") -> int:
    """Parse the flags and build or import a store; return the exit code."""
    parser = Parser(
        program,
        "Build graphs and three-body angles of all crystals once. Training does this on its own; here it "
        "can be done ahead, with several processes, or carried to another machine.",
        ("--workers 8", "--source demo --export demo.store"),
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that build graphs")
    parser.add_argument("--source", default="auto", metavar="{auto,jarvis,demo}", help="where crystals come from")
    parser.add_argument("--data-file", metavar="FILE", help="local dft_3d file")
    parser.add_argument("--release", default=DEFAULT_RELEASE, metavar="NAME", help="official release to download")
    parser.add_argument("--data-dir", default="data", metavar="DIR", help="downloads, graph stores and hulls")
    parser.add_argument("--export", metavar="FILE", help="also write the portable form (one compressed file)")
    parser.add_argument(
        "--import", dest="import_file", metavar="FILE", help="unpack a portable form instead of building"
    )
    parser.add_argument("--verify", action="store_true", help="compare every array with its SHA-256")
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> int:
    if flags.source not in SOURCES:
        raise unknown_name("source", flags.source, SOURCES)
    if flags.workers < 0:
        raise UsageError(f"--workers must be 0 or more, not {flags.workers}")
    if flags.import_file and flags.export:
        raise UsageError("--import and --export contradict each other: give one")
    from crystrata.workflows.sources import build_store, import_store

    console = terminal()
    if flags.import_file:
        store = import_store(Path(flags.import_file), Path(flags.data_dir), console)
    else:
        store = build_store(
            flags.source, flags.release, flags.data_file, Path(flags.data_dir), flags.workers, console,
            export=Path(flags.export) if flags.export else None,
        )  # fmt: skip
    if flags.verify:
        store.verify()
        console.print("every array matches its SHA-256")
    return 0
