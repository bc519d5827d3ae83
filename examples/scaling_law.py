"""Draws the validation loss of a task against the fraction of its labels that a network is trained on.

    python examples/scaling_law.py
    python examples/scaling_law.py --config FILE --task NAME --fractions 1 0.5 0.2 --seeds 42 43 44

Every fraction is a run of its own; what it does to the other tasks is drawn as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from crystrata.errors import CrystrataError
from crystrata.runs.directory import HISTORY, RESULTS
from crystrata.runs.find import free_name
from crystrata.workflows.documents.document import read_document
from crystrata.workflows.documents.experiment import read_experiment
from crystrata.workflows.run import run

CONFIG = Path(__file__).parent / "configs" / "scaling_law.yaml"
FRACTIONS = (1.0, 0.5, 0.2)

Losses = Mapping[float, Mapping[str, float]]


def losses_of(
    config: Path, task: str, fractions: Sequence[float], seeds: Sequence[int], values: Sequence[tuple[str, str]] = ()
) -> Losses:
    """Return fraction -> task -> validation loss of the best epoch, the mean over some seeds.

    Args:
        config: File of the run.
        task: The task that loses labels.
        fractions: Parts of its training labels.
        seeds: A run is made with each.
        values: Further values of the file, (dotted name, YAML).
    """
    return {
        fraction: _mean([_trained(config, task, fraction, seed, values) for seed in seeds]) for fraction in fractions
    }


def _trained(
    config: Path, task: str, fraction: float, seed: int, values: Sequence[tuple[str, str]]
) -> dict[str, float]:
    """Train with a fraction of the labels; return the losses of the best epoch."""
    own = [
        (f"data.init_args.task_masking_ratios.{task}", str(fraction)),
        ("seed_everything", str(seed)),
        ("experiment_name", f"scaling_law_{fraction:g}_{seed}"),
    ]
    experiment, _ = read_experiment(read_document([("", config), *values, *own]))
    command = ["scaling_law.py", task, str(fraction)]
    named = replace(experiment.config, run_id=free_name(experiment.config.family_dir, experiment.name))
    made = run(named, command, Console(quiet=True), extras=experiment.extras())
    best = json.loads((made / RESULTS).read_text(encoding="utf-8"))["best_epoch"]
    record = json.loads((made / HISTORY).read_text(encoding="utf-8"))[best - 1]
    return {name: loss for name, loss in record["val_loss"].items() if name not in ("total", "final")}


def _mean(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}


def figure_of(losses: Losses, task: str) -> Figure:
    """Return the losses over the fraction, both on logarithmic axes; the task that loses labels stands out."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    fractions = sorted(losses)
    for name in losses[fractions[0]]:
        style: dict[str, Any] = (
            {"color": "C0", "marker": "o"} if name == task else {"color": "0.6", "marker": "s", "linestyle": "--"}
        )
        axes.plot(fractions, [losses[fraction][name] for fraction in fractions], label=name, **style)
    axes.set(xscale="log", yscale="log", xlabel=f"fraction of the labels of {task}", ylabel="validation loss")
    axes.set_xticks(fractions, [f"{fraction:g}" for fraction in fractions])
    axes.minorticks_off()
    axes.legend()
    return figure


def table_of(losses: Losses) -> list[str]:
    """Return one line per fraction with the loss of each task."""
    names = list(next(iter(losses.values())))
    lines = [f"{'fraction':>8}  " + "  ".join(f"{name:>14}" for name in names)]
    return lines + [
        f"{fraction:8g}  " + "  ".join(f"{found[name]:14.4f}" for name in names) for fraction, found in losses.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print the table and draw the figure; return the exit code."""
    parser = argparse.ArgumentParser(description="Validation loss against the fraction of labels.")
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help="run over tasks")
    parser.add_argument("--task", default="bond_energy", metavar="NAME", help="task that loses labels")
    parser.add_argument("--fractions", type=float, nargs="+", default=FRACTIONS, metavar="X", help="above 0, at most 1")
    parser.add_argument("--seeds", type=int, nargs="+", default=(42, 43, 44), metavar="N", help="a run for each")
    parser.add_argument("--models-dir", default="models", metavar="DIR", help="folder of the runs")
    parser.add_argument("--output", type=Path, default=Path("scaling_law.png"), metavar="PNG", help="the figure")
    flags = parser.parse_args(arguments)
    values = [("trainer.default_root_dir", flags.models_dir)]
    try:
        losses = losses_of(flags.config, flags.task, flags.fractions, flags.seeds, values)
    except CrystrataError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(table_of(losses)))
    figure_of(losses, flags.task).savefig(flags.output, dpi=150)
    print(f"Figure: {flags.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
