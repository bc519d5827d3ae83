"""Finished runs on the official tests of the JARVIS leaderboard, beside baselines and published models.

    python benchmarks/accuracy.py RUN [RUN ...]

Each RUN is the directory of a completed run whose split holds whole official tests. Runs of one protocol share a table:
figures of different protocols do not compare. The page goes to benchmarks/results/accuracy.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from crystrata.datasets.splits import PROTOCOLS
from crystrata.errors import CrystrataError, UsageError
from crystrata.files import write_text
from crystrata.properties import get_property
from crystrata.published import PUBLISHED
from crystrata.reports.tables import cell_text, markdown
from crystrata.runs.directory import RESULTS
from crystrata.runs.manifest import read_manifest

RESULT = Path(__file__).parent / "results" / "accuracy.md"
RULES = {"dfpt_piezo_max_dij": ("zero where the crystal has an inversion centre, else the median", 12.93)}
"""Benchmark -> a baseline that knows no training but symmetry, and its test MAE."""

_HEAD = """# Official tests of the JARVIS leaderboard

Made by `python benchmarks/accuracy.py RUN ...` from completed runs. Mean absolute errors over whole official tests of
the 2021 release, in the unit of the label. Median: predicting the median of the run's training labels. CGCNN:
retrained, of the dielectric tests the original contribution. Published models are trained for one property each, with
the training part of that benchmark. **Bold**: below the best published figure.
"""


def accuracy_rows(run: Path) -> list[dict[str, str]]:
    """Return one row per official test that a run answers.

    Raises:
        CrystrataError: It is no completed run, or its split holds no whole official test.
    """
    manifest = read_manifest(run)
    if manifest["status"] != "completed":
        raise UsageError(f"{run} is {manifest['status']}, not completed")
    results = json.loads((run / RESULTS).read_text(encoding="utf-8"))
    if not results["official_tests"]:
        raise UsageError(f"{run} holds no whole official test: its split is {results['split']['protocol']}")
    split, hours = results["split"], f"{results['hours']:.3g} h"
    return [
        {
            "official test": f"{benchmark} [{unit}]" if (unit := get_property(figure["property"]).unit) else benchmark,
            "ids": str(figure["ids"]),
            "median baseline": _baseline(benchmark, figure),
            "CGCNN retrained": cell_text(PUBLISHED[benchmark].cgcnn),
            "ALIGNN": cell_text(PUBLISHED[benchmark].alignn),
            "best published": f"{cell_text(PUBLISHED[benchmark].best)} {PUBLISHED[benchmark].best_model}",
            "ours": _ours(benchmark, figure),
            "protocol": f"{split['protocol']}, {split['train']:,} trained on, seed {split['seed']}",
            "device and hours": f"{manifest.get('device', 'device not recorded')}, {hours}",
        }
        for benchmark, figure in results["official_tests"].items()
    ]


def _baseline(benchmark: str, figure: dict[str, Any]) -> str:
    median = cell_text(figure.get("median_mae"))
    return f"{median}; symmetry {cell_text(RULES[benchmark][1])}" if benchmark in RULES else median


def _ours(benchmark: str, figure: dict[str, Any]) -> str:
    text = cell_text(figure["mae"])
    if figure["n"] < figure["ids"]:
        return f"{text} (labels of {figure['n']})"
    return f"**{text}**" if figure["mae"] < PUBLISHED[benchmark].best else text


def page(runs: Sequence[Path]) -> str:
    """Return the page: a table for each protocol, its runs one after another."""
    tables: dict[str, list[dict[str, str]]] = {}
    for run in runs:
        rows = accuracy_rows(run)
        tables.setdefault(rows[0]["protocol"].split(",")[0], []).extend(rows)
    text = _HEAD + "".join(f"Symmetry, {name}: {words}.\n" for name, (words, _) in RULES.items())
    for protocol, rows in tables.items():
        words = PROTOCOLS[protocol.partition(":")[0].partition(" ")[0]].words
        text += f"\n## Protocol {protocol}\n\n{words[0].upper()}{words[1:]}.\n\n{markdown(pd.DataFrame(rows))}"
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page of some runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="directory of a completed run")
    parser.add_argument("--output", type=Path, default=RESULT, metavar="FILE", help="where the page goes")
    flags = parser.parse_args(arguments)
    try:
        text = page(flags.runs)
    except CrystrataError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    write_text(flags.output, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
