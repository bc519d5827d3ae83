"""What a network that learns tasks one after another forgets, with 5 % replay and without.

    python benchmarks/continual.py --data-file FILE --output DIR [--catalogue NAME] [--epochs N] [--most N]

Both trainings have the configuration `examples/continual/NAME.toml`, the same seed, split, order and epochs, over the
JARVIS table by composition. Of polymorphs the one of lowest energy counts; tasks named `generated_...` follow from the
formula (`datasets/generated_labels.py`). "Learned" is the R2, of classes the accuracy, on the test part right
after the step of the task, "end" after the last step; forgotten is the difference, and BWT the mean of its negative:
the mean over all S tasks, the last one included, whose difference is 0; over the earlier ones alone it is S/(S-1) times
as large. Trainings are kept in DIR and go on there; each result is kept in results/continual.json, from which the page
is made.

Replay has a price: a task that arrives shares the network with those that are replayed, which have the same weight in
the loss, and learns a little less; and every head that is replayed costs time.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from crystrata.datasets.catalogues import CATALOGUES
from crystrata.files import write_bytes, write_json, write_text
from crystrata.reports.figures import forgetting_figure, png_of
from crystrata.reports.tables import markdown
from crystrata.runs.continual_config import ContinualConfig, read_continual
from crystrata.workflows.continual import run_continual

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).with_name("results") / "continual.json"
WITH, WITHOUT = "with replay", "without replay"


def main() -> int:
    """Carry out both trainings of a catalogue and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-file", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--catalogue", default="demo", choices=CATALOGUES)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--most", type=int)
    flags = parser.parse_args()
    config = read_continual(
        ROOT / f"examples/continual/{flags.catalogue}.toml",
        data_file=flags.data_file,
        epochs=flags.epochs,
        max_compositions=flags.most,
    )
    bare = replace(config, replay=0.0, replay_by_task={})
    found = {name: _train(one, flags.output, name) for name, one in ((WITH, config), (WITHOUT, bare))}
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    write_json(RESULT, {**kept, flags.catalogue: found})
    _write_page(json.loads(RESULT.read_text()))
    return 0


def _train(config: ContinualConfig, output: Path, name: str) -> dict[str, Any]:
    folder = output / f"{config.catalogue}_{name.replace(' ', '_')}"
    records = run_continual(replace(config, output=str(folder)), sys.argv, Console())
    keys = ("order", "metric", "compositions", "labels", "R", "after_learning", "at_the_end", "forgetting", "bwt")
    cpu = [step["cpu_seconds"] for step in records["steps"]]
    told = {"epochs": config.training["epochs"], "replay": config.replay, "replay_by_task": config.replay_by_task}
    return {**told, **{key: records[key] for key in keys}, "cpu_seconds": None if None in cpu else sum(cpu)}


def _write_page(results: dict[str, dict[str, Any]]) -> None:
    head, rest = (__doc__ or "").split("\n", 1)
    parts = [f"# {head}\n\n{rest.strip()}\n"]
    for catalogue, both in results.items():
        order, picture = both[WITH]["order"], RESULT.with_name(f"continual_{catalogue}.png")
        write_bytes(picture, png_of(forgetting_figure({name: one["R"] for name, one in both.items()}, order), 110))
        parts.append(_section(catalogue, both) + f"\n![R2 of each task over the steps]({picture.name})\n")
    write_text(RESULT.with_suffix(".md"), "\n".join(parts))


def _section(catalogue: str, both: dict[str, Any]) -> str:
    one = both[WITH]
    rows = [_row(task, both) for task in one["order"]]
    table = pd.DataFrame(rows)
    mean = {"task": "mean", "metric": "", "train labels": "", **table.iloc[:, 3:].mean()}
    sizes = ", ".join(f"{count:,} {part}" for part, count in one["compositions"].items())
    costs = "; ".join(
        f"{name}: BWT {found['bwt']:.3f}, {found['cpu_seconds'] or float('nan'):.0f} CPU seconds"
        for name, found in both.items()
    )
    amounts = {"others": one["replay"], **one["replay_by_task"]}
    told = ", ".join(f"{name} {amount:g}" for name, amount in amounts.items())
    return (
        f"## {catalogue}: {len(rows)} tasks\n\nCompositions: {sizes}; at most {one['epochs']} epochs a step; replay: "
        f"{told}.\n\n**{costs}.**\n\n{markdown(pd.concat([table, pd.DataFrame([mean])]))}"
    )


def _row(task: str, both: dict[str, Any]) -> dict[str, Any]:
    row = {"task": task, "metric": both[WITH]["metric"][task], "train labels": both[WITH]["labels"][task]["train"]}
    for name, found in both.items():
        row[f"learned, {name}"] = found["after_learning"][task]
        row[f"end, {name}"] = found["at_the_end"][task]
        row[f"forgotten, {name}"] = found["forgetting"][task]
    return row


if __name__ == "__main__":
    raise SystemExit(main())
