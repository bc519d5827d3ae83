"""How CPU time and memory grow: graphs and one training step against crystals, atoms per cell, and channels.

    python benchmarks/growth.py --data-file FILE

Each point is a process of its own with one thread (Linux: memory is read from /proc). The picture and the table go to
benchmarks/results/growth.png and growth.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from crystrata.files import write_text
from crystrata.reports.tables import markdown
from crystrata.structures.crystal import Crystal
from crystrata.structures.readers import read_crystals
from peers.contest import ALLOCATOR, ONE_THREAD
from speed import draw

RESULTS = Path(__file__).parent / "results"
CELL = Path(__file__).parent.parent / "examples" / "cifs" / "strontium_titanate.cif"
CRYSTALS, REPEATS, CHANNELS, BATCH = (32, 64, 128, 256, 512, 1024), (2, 3, 4, 5, 6, 8), (16, 32, 64, 128, 256), 32
ROUNDS = 5
SMALLEST = Crystal.create("simple cubic polonium", 3.36 * np.eye(3), [84], [(0, 0, 0)])


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        axis: What grows.
        size: How far.
        edges: Edges of all its crystals.
        graph_seconds: CPU time of the graphs; NaN where they do not grow.
        graph_memory: Growth of the resident memory meanwhile [MB].
        step_seconds: CPU time of a training step on all its crystals.
        step_memory: Growth of the resident memory in the first one [MB].
    """

    axis: str
    size: int
    edges: int
    graph_seconds: float
    graph_memory: float
    step_seconds: float
    step_memory: float


def main() -> int:
    """Measure every point, draw the picture, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-file", required=True, type=Path)
    flags = parser.parse_args()
    os.environ.update(ONE_THREAD | ALLOCATOR)
    with tempfile.TemporaryDirectory() as folder:
        drawn, _ = draw(flags.data_file, Path(folder), max(CRYSTALS))
    cell = next(item for item in read_crystals([CELL]) if isinstance(item, Crystal))
    tasks = [("crystals", count, drawn[:count], 64) for count in CRYSTALS]
    tasks += [("atoms in the cell", len(cell) * n**3, [supercell(cell, n)], 64) for n in REPEATS]
    tasks += [("channels", channels, drawn[:BATCH], channels) for channels in CHANNELS]
    points = []
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning, max_tasks_per_child=1) as pool:
        for task in tasks:
            points.append(pool.submit(measure, *task).result())
            print(points[-1], flush=True)
    draw_figure(points, RESULTS / "growth.png")
    write_text(RESULTS / "growth.md", page(points))
    return 0


def supercell(cell: Crystal, n: int) -> Crystal:
    """Return n x n x n cells of a crystal as one."""
    shifts = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    frac = ((cell.frac + shifts) / n).reshape(-1, 3)
    return replace(cell, lattice=cell.lattice * n, numbers=np.tile(cell.numbers, n**3), frac=frac)


def measure(axis: str, size: int, crystals: list[Crystal], channels: int) -> Point:
    """Measure one point in this process, which has done nothing before."""
    import torch

    from crystrata.datasets.batch import Batch, Targets
    from crystrata.graph_settings import GraphSettings
    from crystrata.graphs.batch import collate
    from crystrata.graphs.neighbours import build_graphs
    from crystrata.jarvis_properties import property_tasks
    from crystrata.networks.config import NetworkConfig
    from crystrata.networks.network import Network

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    tasks = property_tasks(["formation_energy"])
    network = Network(NetworkConfig(tasks, "e3nn", {"channels": channels, "layers": 3}))
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    rows = list(enumerate(crystals))

    def step(count: int) -> None:
        labels = {"formation_energy": Targets(torch.zeros(count), torch.ones(count, dtype=torch.bool))}
        batch = Batch(torch.arange(count), labels, crystals=collate(arrays, np.arange(count)))
        optimizer.zero_grad(set_to_none=True)
        network.loss_sums(batch)["formation_energy"].backward()
        optimizer.step()

    arrays, _ = build_graphs([(0, SMALLEST)], GraphSettings())  # what is built on first use is built here
    step(1)
    graph_memory = growth(lambda: build_graphs(rows, GraphSettings()))
    arrays, _ = build_graphs(rows, GraphSettings())
    graph_seconds = seconds(lambda: build_graphs(rows, GraphSettings())) if axis != "channels" else float("nan")
    step_memory = growth(lambda: step(len(rows)))
    step_seconds = seconds(lambda: step(len(rows)))
    return Point(axis, size, len(arrays.neighbour), graph_seconds, graph_memory, step_seconds, step_memory)


def seconds(run: Callable[[], object]) -> float:
    """Return the CPU seconds of a call, the median of several."""
    found = []
    for _ in range(ROUNDS):
        started = time.process_time()
        run()
        found.append(time.process_time() - started)
    return statistics.median(found)


def growth(run: Callable[[], object]) -> float:
    """Return by how much the resident memory of this process grows at most during a call [MB]."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest mark so far
    before = _high_mark()
    run()
    return _high_mark() - before


def _high_mark() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def draw_figure(points: Sequence[Point], path: Path) -> None:
    """Draw time and memory over each axis, with a line of proportional growth through the last point."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    axes = list(dict.fromkeys(point.axis for point in points))
    figure = Figure(figsize=(3.4 * len(axes), 5.6), layout="constrained")
    panels = figure.subplots(2, len(axes), squeeze=False)
    for column, axis in enumerate(axes):
        chosen = [point for point in points if point.axis == axis]
        sizes = [point.size for point in chosen]
        curves = (("graphs", "graph", "#c65d1e"), ("training step", "step", "#1f5fa8"))
        for row, (what, unit) in enumerate((("seconds", "CPU time [s]"), ("memory", "memory [MB]"))):
            panel = panels[row, column]
            for label, part, colour in curves[axis == "channels" :]:
                values = [getattr(point, f"{part}_{what}") for point in chosen]
                panel.loglog(sizes, values, "o-", color=colour, label=label, markersize=4)
                panel.loglog(sizes, [values[-1] * size / sizes[-1] for size in sizes], ":", color=colour, linewidth=1)
            panel.set_xlabel(axis)
            panel.set_ylabel(unit)
            panel.set_xticks(sizes, [str(size) for size in sizes], fontsize=7)
            panel.minorticks_off()
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
            panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            panel.grid(alpha=0.3)
    panels[0, 0].legend(fontsize=8)
    figure.suptitle("Growth of CPU time and memory; dotted: proportional", fontsize=11)
    figure.savefig(path, dpi=110)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return b of the power law values ~ sizes^b that fits best: 1 is proportional growth."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _exponents(points: Sequence[Point]) -> str:
    """Return the exponents of all that grows with the edges, as a sentence per axis."""
    told = ""
    for axis in dict.fromkeys(point.axis for point in points if point.axis != "channels"):
        chosen = [point for point in points if point.axis == axis]
        edges = [point.edges for point in chosen]
        found = [
            f"{what} {exponent(edges, [getattr(point, name) for point in chosen]):.2f}"
            for what, name in (("graphs", "graph_seconds"), ("their memory", "graph_memory"),
                               ("step", "step_seconds"), ("its memory", "step_memory"))
        ]  # fmt: skip
        told += f"Exponents of growth with the edges along {axis}: {', '.join(found)}.\n"
    return told


def page(points: Sequence[Point]) -> str:
    """Return the table of all points."""
    rows = [
        {
            "axis": point.axis,
            "size": point.size,
            "edges": point.edges,
            "graphs [ms]": 1e3 * point.graph_seconds,
            "graphs [us per edge]": 1e6 * point.graph_seconds / point.edges,
            "graphs [MB]": point.graph_memory if point.axis != "channels" else None,
            "step [ms]": 1e3 * point.step_seconds,
            "step [us per edge]": 1e6 * point.step_seconds / point.edges,
            "step [MB]": point.step_memory,
        }
        for point in points
    ]
    return (
        "# Growth of CPU time and memory\n\n"
        "Made by `python benchmarks/growth.py --data-file FILE`: one core, CPU time, medians of "
        f"{ROUNDS}, with the\nallocator settings of [speed.md](speed.md); memory is the growth of the "
        "resident memory of a fresh process.\nCrystals are drawn from JARVIS-DFT (seed 0, at most 52 atoms); "
        f"cells are\nsupercells of SrTiO3; channels are measured on a batch of {BATCH}; a training step\n"
        "takes all crystals of the row as one batch (e3nn std).\n\n"
        "![Growth](growth.png)\n\n" + _exponents(points) + "\n" + markdown(pd.DataFrame(rows))
    )


if __name__ == "__main__":
    sys.exit(main())
