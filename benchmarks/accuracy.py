"""The page of accuracy: official tests of the JARVIS leaderboard, and tests outside the training distribution.

    python benchmarks/accuracy.py RUN [RUN ...]

Each RUN is the directory of a completed run. Runs whose split holds whole official tests answer these beside baselines
and published models; runs on the splits by chemical system and by prototype make the tables of tests outside the
training distribution. An e3nn run and a CGCNN run that share their parts share a table. The page goes to
benchmarks/results/accuracy.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from crystrata.errors import CrystrataError, UsageError
from crystrata.files import write_text
from finished_runs import by_parts, read_run
from official_tables import RULES, benchmarks_section, official_section
from outside_tables import OUTSIDE, outside_section

RESULT = Path(__file__).parent / "results" / "accuracy.md"

_HEAD = """# Accuracy

Made by `python benchmarks/accuracy.py RUN ...` from completed runs. Mean absolute errors over whole official tests of
the 2021 release, in the unit of the label. Median: predicting the median of the run's training labels. CGCNN
retrained, ALIGNN, best: published, trained for one property each with the training part of that benchmark; of the
dielectric tests CGCNN is the original contribution. **Bold**: below the best published figure.
"""


def page(folders: Sequence[Path]) -> str:
    """Return the page of some run directories.

    Raises:
        CrystrataError: One is no completed run, or its split has no place on the page.
    """
    runs = [read_run(folder) for folder in folders]
    official = [run for run in runs if run.results["official_tests"]]
    outside = [run for run in runs if run.record.name in OUTSIDE]
    for folder, run in zip(folders, runs, strict=True):
        if run not in official and run not in outside:
            raise UsageError(f"{folder} holds no whole official test: its split is {run.protocol}")
    text = _HEAD + "".join(f"Symmetry, {name}: {words}.\n" for name, (words, _) in RULES.items())
    groups = by_parts(official)
    alone = [group[0] for group in groups if group[0].record.name == "official" and len(group) == 1]
    sections = [official_section(group) for group in groups if group[0] not in alone]
    sections += [benchmarks_section(alone)] if alone else []
    return "\n".join([text, *sections, *([outside_section(outside)] if outside else [])])


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
