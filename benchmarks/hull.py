"""Energy above hull from the formation energies of a JARVIS file, against the hull column of the same file.

    python benchmarks/hull.py --data-file FILE.parquet

The hull is spanned by all rows, as in the column `ehull_hull2021`; a training run spans it by its training rows alone.
The table goes to benchmarks/results/hull.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from crystrata.files import write_text
from crystrata.hull import formula_counts, hull_energies
from crystrata.reports.tables import markdown
from crystrata.sources.jarvis import open_data_file

RESULT = Path(__file__).parent / "results" / "hull.md"


def main() -> int:
    """Compute the hull of the complete file with both solvers and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-file", required=True)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        labels = open_data_file(Path(flags.data_file), cache_dir=Path(cache)).labels
    counts = formula_counts(labels["formula"])
    energies = labels["formation_energy_peratom"].to_numpy()
    known = labels["ehull_hull2021"].to_numpy()
    rows = []
    for solver in ("pymatgen", "scipy"):
        started = time.process_time()
        above = energies - hull_energies(counts, energies, np.ones(len(energies), dtype=bool), solver=solver)
        seconds = time.process_time() - started
        both = np.isfinite(above) & np.isfinite(known)
        error = np.abs(above - known)[both]
        rows.append(
            {
                "solver": solver,
                "crystals": int(both.sum()),
                "r": float(np.corrcoef(above[both], known[both])[0, 1]),
                "MAE [eV/atom]": float(error.mean()),
                "largest [eV/atom]": float(error.max()),
                "CPU seconds": seconds,
            }
        )
        print(rows[-1], flush=True)
    head = "# Energy above hull against `ehull_hull2021`\n\nMade by `python benchmarks/hull.py --data-file FILE`.\n\n"
    write_text(RESULT, head + markdown(pd.DataFrame(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
