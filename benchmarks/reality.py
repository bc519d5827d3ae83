"""Reality check: predictions and DFT labels of textbook crystals beside what was measured.

    CRYSTRATA_JARVIS=FILE python benchmarks/reality.py [--model FOLDER]

The crystals of benchmarks/reality/crystals.csv are built from prototype and measured lattice constants and predicted by
the evaluated model, or another. With a JARVIS file (`--data-file`, or the variable) the DFT labels of the same crystals
stand beside them. Page and picture go to benchmarks/results/reality.md and reality.png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from crystrata.errors import CrystrataError
from crystrata.files import write_bytes, write_text
from crystrata.jarvis_properties import get_property
from crystrata.prediction.predict import predict_materials
from crystrata.prediction.trained_model import TrainedModel, load_model
from crystrata.reports.figures import png_of
from crystrata.runs.find import EVALUATED_MODEL, SHIPPED
from crystrata.sources import DEFAULT_RELEASE
from crystrata.sources.opening import named_file
from reality_crystals import MEASURED, crystal_of, read_table, spacegroups
from reality_labels import find_labels, no_labels
from reality_offsets import Comparison
from reality_page import figure, page

RESULT = Path(__file__).parent / "results" / "reality.md"


def compare(model: TrainedModel, table: pd.DataFrame, data_file: Path | None, data_dir: Path) -> Comparison:
    """Return measured values, predictions and DFT labels of all rows of the table.

    Raises:
        CrystrataError: The model lacks a property, or the data file is unusable.
    """
    crystals = [crystal_of(row) for row in table.itertuples()]
    predicted = predict_materials(model, list(crystals))
    known = [name for name in MEASURED if name in model.properties]
    if data_file:
        labels = find_labels(crystals, spacegroups(table), known, model, data_file, data_dir)
    else:
        labels = no_labels(len(table), known)
    return Comparison(
        table,
        measured=pd.DataFrame({name: table[MEASURED[name]] for name in known}),
        predicted=pd.DataFrame({name: predicted[get_property(name).column] for name in known}),
        labels=labels,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and the picture of a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SHIPPED / EVALUATED_MODEL, metavar="PATH", help="run or folder")
    parser.add_argument("--data-file", metavar="FILE", help="JARVIS file (default: the variable CRYSTRATA_JARVIS)")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of caches and downloads")
    parser.add_argument("--output", type=Path, default=RESULT, metavar="FILE", help="where the page goes")
    flags = parser.parse_args(arguments)
    try:
        model = load_model(flags.model, "cpu")
        result = compare(model, read_table(), named_file(DEFAULT_RELEASE, flags.data_file), flags.data_dir)
    except CrystrataError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    picture = flags.output.with_suffix(".png")
    write_bytes(picture, png_of(figure(result)))
    text = page(result, flags.model.name, model.facts.get("split_digest", "")[:12], picture.name)
    write_text(flags.output, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
