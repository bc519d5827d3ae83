"""Speed side by side with the peers: CPU time on the same JARVIS crystals, medians of rounds taken in turn.

    python benchmarks/speed.py --data-file FILE [--peers PYTHON]... [--crystals 500] [--rounds 5] [--rows a,b]

`--peers` is the Python of an environment that holds peers (benchmarks/README.md says how to make one); it may be given
several times. Without it only what Crystrata's own dependencies can run is measured. `--rows` takes keys of rows or of
tables, see benchmarks/peers/rows.py. The page goes to benchmarks/results/speed.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from crystrata.errors import unknown_name
from crystrata.files import write_text
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import COSINE_SCALE
from crystrata.graphs.batch import collate
from crystrata.graphs.neighbours import build_graphs
from crystrata.sources.jarvis import open_data_file
from crystrata.structures.crystal import Crystal
from peers.contest import ALLOCATOR, Contestant, Measured, contest
from peers.page import goal_table, group_table, page, shown
from peers.rows import CONTESTANTS, GROUPS
from peers.sample import Sample

RESULT = Path(__file__).parent / "results" / "speed.md"
LARGEST_CELL = 52  # atoms
TRAINED, PREDICTED = 256, 200  # crystals of a training round, CIF files


def main() -> int:
    """Draw the crystals, let every group contend, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-file", required=True, type=Path)
    parser.add_argument("--peers", action="append", default=[], metavar="PYTHON")
    parser.add_argument("--crystals", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", default="")
    parser.add_argument("--output", type=Path, default=RESULT)
    flags = parser.parse_args()
    console = Console(stderr=True)
    chosen = chosen_rows(flags.rows)
    peers = [os.path.abspath(peer) for peer in flags.peers]  # not resolved: a link is what makes an environment
    measured: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        crystals, energy = draw(flags.data_file, Path(folder), flags.crystals)
        sample = as_sample(crystals, energy)
        _write_cifs(crystals[:PREDICTED], Path(folder) / "cifs")
        for group in GROUPS:
            rows = [one for one in chosen if one.group == group.key]
            part = sample.first(TRAINED) if group.key == "train" else sample
            path = Path(folder) / f"{group.key}.npz"
            part.save(path)
            with console.status(group.title) as status:
                measured += contest(
                    rows, [sys.executable, *peers], path, flags.rounds,
                    lambda line, status=status, title=group.title: status.update(f"{title}: {line}"),
                )  # fmt: skip
            if rows:
                console.print(shown(group.title, group_table(group, measured[-len(rows) :])))
    write_text(flags.output, page(_head(sample, flags), measured))
    console.print(shown("Ratios of CPU time", goal_table(measured)))
    return 0


def chosen_rows(names: str) -> list[Contestant]:
    """Return the contestants that are named by key or group, all if none is named.

    Raises:
        UsageError: A name is unknown.
    """
    wanted = [name for name in names.split(",") if name]
    known = [*(one.key for one in CONTESTANTS), *(group.key for group in GROUPS)]
    for name in wanted:
        if name not in known:
            raise unknown_name("row", name, known)
    return [one for one in CONTESTANTS if not wanted or one.key in wanted or one.group in wanted]


def draw(file: Path, cache: Path, count: int) -> tuple[list[Crystal], np.ndarray]:
    """Return crystals drawn with seed 0 from those of at most 52 atoms, and their formation energies."""
    table = open_data_file(file, cache_dir=cache)
    energies = table.labels["formation_energy_peratom"].to_numpy()
    small = [
        (crystal, energy)
        for crystal, energy in zip(table.crystals(), energies, strict=True)
        if len(crystal) <= LARGEST_CELL and np.isfinite(energy)
    ]
    rows = np.random.default_rng(0).permutation(len(small))[:count]
    return [small[row][0] for row in rows], np.array([small[row][1] for row in rows])


def as_sample(crystals: list[Crystal], energy: np.ndarray) -> Sample:
    """Return crystals and their graphs as the plain arrays of the workers."""
    arrays, rejected = build_graphs(enumerate(crystals), GraphSettings())
    if rejected:
        raise SystemExit(f"no graph for {rejected[0][1].id}: {rejected[0][1].reason}")
    pair_counts = np.diff(arrays.pair_offsets)
    first_edge = np.repeat(arrays.edge_offsets[:-1], pair_counts)
    pair = collate(arrays, np.arange(len(arrays)), angles=True).pair.numpy().T - first_edge[:, None]
    return Sample(
        lattice=arrays.lattice, energy=energy, atom_counts=arrays.atom_counts, numbers=arrays.numbers.astype(int),
        frac=arrays.frac, radius=arrays.radius, edge_counts=arrays.edge_counts.astype(int),
        neighbour=arrays.neighbour.astype(int), image=arrays.image.astype(int), vector=arrays.vector,
        pair_counts=pair_counts, pair=pair, cosine=arrays.cosine / np.float32(COSINE_SCALE),
    )  # fmt: skip


def _write_cifs(crystals: list[Crystal], folder: Path) -> None:
    from pymatgen.core import Structure

    folder.mkdir()
    for number, crystal in enumerate(crystals):
        structure = Structure(crystal.lattice, crystal.numbers.tolist(), crystal.frac)
        structure.to(str(folder / f"{number:03d}.cif"))


def _head(sample: Sample, flags: argparse.Namespace) -> str:
    rows = f" --rows {flags.rows}" if flags.rows else ""
    allocator = ", ".join(f"{name}={value}" for name, value in ALLOCATOR.items())
    return (
        "# Speed beside the peers\n\n"
        f"Made by `python benchmarks/speed.py --data-file FILE {'--peers PYTHON ' * len(flags.peers)}"
        f"--crystals {flags.crystals} --rounds {flags.rounds}{rows}`\n"
        f"on one core ({_processor()}, Python {platform.python_version()}, torch {torch.__version__}).\n\n"
        f"CPU time of the process, one thread, {flags.rounds} rounds in which all rows of a table take turns; medians. "
        f"The crystals are\n{len(sample)} drawn from JARVIS-DFT (seed 0) with at most {LARGEST_CELL} atoms in the cell "
        f"(mean {sample.atom_counts.mean():.1f}); training rows take the first {TRAINED},\npredictions the first "
        f"{PREDICTED} as CIF files. All processes run with\n{allocator};\nall that use torch flush denormal numbers. "
        "Rows that say otherwise are meant to. A peer computes on the smooth neighbourhoods\n"
        "of Crystrata where it takes edges (`edges per atom` as in Crystrata's rows), else on its own graph.\n"
    )


def _processor() -> str:
    """The name of the processor, where the system tells it: denormal numbers are slow on some and not on others."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
