"""Three scenarios of inverse design, from training to pictures

    python benchmarks/study.py --data-file FILE --output DIR

FILE is the JARVIS-DFT release of 2021 with its columns magmom_oszicar [mu_B per cell], Tc_supercon [K] and
ph_heat_capacity [J/(mol K) per cell]; the last stands in for the thermal conductivity. The configuration is
`examples/design/three_scenarios.toml`: a network of compositions learns critical temperature, heat capacity,
magnetisation, metal or not, and formation energy [eV/atom], one after another, from the polymorph of lowest energy;
three heads are then trained alone; and three scenarios are searched along eight paths. Targets lie two standard
deviations from the mean of the labels: few compounds reach one of them, fewer reach all. Seeds are the 20 compounds of
the test part with the highest probability of the target class.

All values are predictions of the searching network itself; design.md evaluates such compositions with independent
networks. Moment and heat capacity are those of the cell, which no network of compositions can know: these heads, and
that of the critical temperature with its few labels, predict little, as their R2 shows. Times are those of 20 searches
at once; larger batches take less time for each. The page is made from the folder of the study.
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
import pandas as pd
from rich.console import Console

from crystrata.design.study_config import read_study
from crystrata.files import write_bytes, write_text
from crystrata.reports.study_figures import path_title
from crystrata.reports.tables import markdown
from crystrata.runs.continual_config import read_continual
from crystrata.workflows.continual import FINAL, FINETUNE, FINETUNE_SUMMARY, finetune_heads, run_continual
from crystrata.workflows.study import COMPARISON, ELEMENTS, LISTING, SCATTER, STUDY_RESULTS, SUMMARY, run_study

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "examples/design/three_scenarios.toml"
PAGE = Path(__file__).with_name("results") / "study.md"
HEADS, HEAD_EPOCHS = ("metal", "formation_energy", "magnetisation"), 8
SHOWN = {
    COMPARISON: "bars of every objective",
    ELEMENTS: "elements of the compositions",
    SCATTER: "compositions and seeds",
}
LISTED = LISTING.format("composition_whitelist")
WAY = """## Progress from the seeds to the targets

How far the mean over the compositions of a path has moved from the mean over the seeds to each target value, in
percent, with the smallest and the largest share of a path. Classes are left out: the seeds already belong to them.
"""


def main() -> int:
    """Train, search and write the page, skipping what is already done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-file", required=True)
    parser.add_argument("--output", required=True, type=Path)
    flags = parser.parse_args()
    console, output = Console(), str(flags.output)
    training = read_continual(CONFIG, data_file=flags.data_file, output=output)
    records = run_continual(training, sys.argv, console)
    tuned = flags.output / FINETUNE
    if not (tuned / FINETUNE_SUMMARY).is_file():
        finetune_heads(training, HEADS, sys.argv, console, epochs=HEAD_EPOCHS)
    config = replace(read_study(CONFIG, output=output), model=str(tuned / FINAL))
    folder = run_study(config, tuned / FINAL, console, "cpu")
    metrics = {task: f"{records['metric'][task]} {value:.3f}" for task, value in records["at_the_end"].items()}
    _write_page([folder / scenario.name for scenario in config.scenarios], metrics)
    return 0


def _write_page(scenarios: list[Path], metrics: dict[str, str]) -> None:
    head, rest = (__doc__ or "").split("\n", 1)
    text = rest.strip("\n")
    listed = ", ".join(f"{task} {metric}" for task, metric in metrics.items())
    found = [json.loads((folder / STUDY_RESULTS).read_text(encoding="utf-8")) for folder in scenarios]
    parts = [f"# {head}\n\n{text}\n\nOn the test part, after the last step: {listed}.\n"]
    parts += [WAY, markdown(way_table(found))]
    for folder in scenarios:
        parts.append((folder / SUMMARY).read_text(encoding="utf-8").replace("\n#", "\n##").replace("# ", "## ", 1))
        parts += [_picture(folder / name, words) for name, words in SHOWN.items()]
    parts.append(_picture(scenarios[0] / LISTED, "from seed to composition"))
    write_text(PAGE, "\n".join(parts))


def way_table(scenarios: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row for each path: its progress in each scenario (a `results.json`), and the range of these shares."""
    rows = []
    for path in scenarios[0]["paths"]:
        ways = [_way(scenario, path) for scenario in scenarios]
        every = [share for way in ways for share in way.values()]
        texts = [", ".join(f"{title} {share}" for title, share in way.items()) for way in ways]
        rows.append([path_title(path), *texts, min(every), max(every)])
    return pd.DataFrame(rows, columns=["path", *(scenario["scenario"] for scenario in scenarios), "least", "most"])


def _way(scenario: Mapping[str, Any], path: str) -> dict[str, int]:
    """Return target -> progress of the mean of a path from the mean of the seeds, in percent."""
    seeds, reached = (np.mean(values, 0) for values in (scenario["seed_values"], scenario["paths"][path]["values"]))
    return {
        one["title"]: round(100 * (end - start) / (one["value"] - start))
        for one, start, end in zip(scenario["objectives"], seeds, reached, strict=True)
        if not one["classes"]
    }


def _picture(file: Path, words: str) -> str:
    picture = PAGE.with_name(f"study_{file.parent.name}_{file.name}")
    write_bytes(picture, file.read_bytes())
    return f"![{file.parent.name}: {words}]({picture.name})\n"


if __name__ == "__main__":
    sys.exit(main())
