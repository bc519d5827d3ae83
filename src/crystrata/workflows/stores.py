"""Building a graph store ahead of training, and carrying it between machines."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from crystrata.graph_settings import GraphSettings
from crystrata.graphs.portable import export_portable, import_portable
from crystrata.graphs.store import GraphStore, open_store
from crystrata.sources.names import Source
from crystrata.sources.opening import open_source
from crystrata.sources.table import CrystalTable


def build_store(
    source: Source,
    release: str,
    data_file: str | None,
    data_dir: Path,
    workers: int,
    console: Console,
    *,
    export: Path | None = None,
) -> GraphStore:
    """Open the store of a source, building it where it does not exist, and say what is in it."""
    table = open_source(source, release, data_file, data_dir, console)
    store = _built(table, data_dir / "stores", workers, console)
    if export is not None:
        with console.status(Text(f"writing {export}")):
            export_portable(store, export)
        console.print(f"portable form: {export}, {export.stat().st_size / 1e6:.1f} MB", soft_wrap=True)
    return store


def import_store(file: Path, data_dir: Path, console: Console) -> GraphStore:
    """Unpack a portable store and say what is in it."""
    started = time.perf_counter()
    with console.status(Text(f"unpacking {file}")):
        store = import_portable(file, data_dir / "stores")
    _report(store, time.perf_counter() - started, "unpacked", console)
    return store


def _built(table: CrystalTable, stores: Path, workers: int, console: Console) -> GraphStore:
    started = time.perf_counter()
    with Progress(
        TextColumn("building graphs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("graphs", total=len(table))
        store = open_store(
            table, GraphSettings(), stores, workers=workers, progress=lambda done, _: bar.update(task, completed=done)
        )
    _report(store, time.perf_counter() - started, "ready", console)
    return store


def _report(store: GraphStore, seconds: float, verb: str, console: Console) -> None:
    size = sum(file.stat().st_size for file in store.path.iterdir()) / 1e6
    arrays = store.arrays
    console.print(
        f"store {store.path} {verb} in {seconds:.1f} s: {len(arrays)} crystals, {len(arrays.numbers)} atoms, "
        f"{len(arrays.neighbour)} edges, {len(arrays.cosine)} angles, {size:.0f} MB; {len(store.rejected)} rejected",
        soft_wrap=True,
    )
    for rejected in store.rejected[:10]:
        console.print(f"  rejected {rejected.id}: {rejected.code}: {rejected.reason}", soft_wrap=True)
