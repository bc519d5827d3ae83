"""Opening the crystals of a run: a local file, the official release, or the demo crystals."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from crystrata.errors import OfflineError, UsageError
from crystrata.sources import DEFAULT_RELEASE, Source
from crystrata.sources.demo import open_demo
from crystrata.sources.jarvis import open_data_file, open_release
from crystrata.sources.table import CrystalTable

JARVIS_VARIABLE = "CRYSTRATA_JARVIS"


def open_source(source: Source, release: str, data_file: str | None, data_dir: Path, console: Console) -> CrystalTable:
    """Open the table of a source.

    `auto` takes, in this order: the file that was named; the file that the variable CRYSTRATA_JARVIS names, unless
    another release is asked for; the official release, downloaded once; and, where no network is, the demo crystals,
    with a loud notice. `jarvis` is the same without the demo. A UsageError if the demo was asked for together with a
    file, a DataError if a file or download is missing or damaged.
    """
    if source == "demo":
        if data_file:
            raise UsageError("--source demo and --data-file contradict each other: give one")
        return open_demo()
    named = named_file(release, data_file)
    if named:
        return open_data_file(named, cache_dir=data_dir / "jarvis")
    try:
        return _download(release, data_dir, console)
    except OfflineError as error:
        if source == "jarvis":
            raise
        console.print(f"{error}\nGoing on with the DEMO crystals: labels are not DFT.", style="bold yellow")
        return open_demo()


def named_file(release: str, data_file: str | None) -> Path | None:
    """Return the local file that stands for a release: the one given, or that of the variable CRYSTRATA_JARVIS."""
    named = data_file or (os.environ.get(JARVIS_VARIABLE) if release == DEFAULT_RELEASE else None)
    return Path(named) if named else None


def _download(release: str, data_dir: Path, console: Console) -> CrystalTable:
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"downloading {release}", total=None)
        return open_release(
            release,
            cache_dir=data_dir / "jarvis",
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
