"""The graph store of a complete JARVIS file: time and size to build, to open, and to carry.

    python benchmarks/store.py --data-file FILE [--workers N]

The table goes to benchmarks/results/store.md.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from crystrata.files import write_text
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import collate
from crystrata.graphs.portable import export_portable, import_portable
from crystrata.graphs.store import GraphStore, open_store
from crystrata.reports.tables import markdown
from crystrata.sources.jarvis import open_data_file

RESULT = Path(__file__).parent / "results" / "store.md"


def main() -> int:
    """Build, open, export, import and collate; write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-file", required=True)
    parser.add_argument("--workers", type=int, default=0)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = _measure(Path(flags.data_file), Path(folder), flags.workers)
    head = (
        "# The graph store of the complete JARVIS file\n\n"
        f"Made by `python benchmarks/store.py --data-file FILE --workers {flags.workers}`; wall times\n"
        "of a shared machine.\n\n"
    )
    table = markdown(pd.DataFrame(rows, columns=["what", "value", "unit"]))
    write_text(RESULT, head + table)
    print(table)
    return 0


def _measure(file: Path, folder: Path, workers: int) -> list[tuple[str, float | int, str]]:
    table = open_data_file(file, cache_dir=folder)
    wall, cpu = time.perf_counter(), _cpu()
    store = open_store(table, GraphSettings(), folder / "a", workers=workers)
    rows: list[tuple[str, float | int, str]] = [
        ("crystals", len(store.arrays), ""),
        ("edges", len(store.arrays.neighbour), ""),
        ("edges per atom", len(store.arrays.neighbour) / len(store.arrays.numbers), ""),
        ("angles", len(store.arrays.cosine), ""),
        ("build, CPU time", _cpu() - cpu, "s"),
        ("build, wall time", time.perf_counter() - wall, "s"),
        ("size, vectors and angles included", sum(part.stat().st_size for part in store.path.iterdir()) / 1e6, "MB"),
    ]
    started = time.perf_counter()
    GraphStore(store.path)
    rows.append(("open", 1e3 * (time.perf_counter() - started), "ms"))
    portable = folder / "portable.store"
    export_portable(store, portable)
    rows.append(("portable form", portable.stat().st_size / 1e6, "MB"))
    started = time.perf_counter()
    again = import_portable(portable, folder / "b")
    rows.append(("unpack the portable form, wall time", time.perf_counter() - started, "s"))
    rows.append(("arrays equal after unpacking", int(again.header["arrays"] == store.header["arrays"]), "1 = yes"))
    collate(store.arrays, np.arange(1))  # loads the machine code
    chosen = np.random.default_rng(0).permutation(len(store.arrays))[:6400].reshape(-1, 32)
    for words, angles in (("collate a batch of 32, per crystal", False), ("the same with angles", True)):
        cpu = time.process_time()
        for part in chosen:
            collate(store.arrays, part, angles=angles)
        rows.append((words, 1e6 * (time.process_time() - cpu) / chosen.size, "us CPU"))
    return rows


def _cpu() -> float:
    """CPU seconds of this process and of its finished children."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


if __name__ == "__main__":
    sys.exit(main())
