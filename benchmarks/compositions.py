"""Composition keys, the kernel mean descriptor and its inverse on all formulas of a JARVIS release.

    python benchmarks/compositions.py --data-file FILE.parquet

The inverse is compared with projected accelerated gradient on the simplex, all rows in one batch. The page goes to
benchmarks/results/compositions.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from crystrata.compositions.descriptors import KernelMean, Statistics
from crystrata.compositions.keys import composition_keys, group_key, weights
from crystrata.files import write_text
from crystrata.reports.tables import markdown
from crystrata.sources.jarvis import open_data_file

RESULT = Path(__file__).parent / "results" / "compositions.md"
ROWS = 1000  # descriptors that are turned back
NOISE = 0.05  # added to each number of a descriptor: no recipe has it
STEPS = 20_000  # at most
SETTLED = 1e-10  # a row whose fractions all move by less is done

Result = TypeVar("Result")


def projected(rows: np.ndarray) -> np.ndarray:
    """Return the nearest points of the simplex, (B, n): sort, find the threshold, cut."""
    falling = -np.sort(-rows, axis=1)
    thresholds = (np.cumsum(falling, axis=1) - 1) / np.arange(1, rows.shape[1] + 1)
    count = (falling > thresholds).sum(axis=1)
    return np.maximum(rows - thresholds[np.arange(len(rows)), count - 1][:, None], 0.0)


def projected_gradient(matrix: np.ndarray, descriptors: np.ndarray) -> np.ndarray:
    """Return min |w K - z| on the simplex by accelerated gradient with restarts, (B, n)."""
    centre = matrix.mean(axis=0)  # fractions add up to 1: the mean of K changes nothing but the condition number
    kernel = (matrix - centre) @ (matrix - centre).T
    goal = (descriptors - centre) @ (matrix - centre).T
    rate = 1 / np.linalg.eigvalsh(kernel)[-1]
    here = ahead = np.full(goal.shape, 1 / goal.shape[1])
    momentum = np.ones(len(goal))
    for _ in range(STEPS):
        there = projected(ahead - rate * (ahead @ kernel - goal))
        restart = ((ahead - there) * (there - here)).sum(axis=1) > 0
        momentum = np.where(restart, 1.0, momentum)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = there + np.where(restart, 0.0, (momentum - 1) / following)[:, None] * (there - here)
        moved, here, momentum = np.abs(there - here).max(), there, following
        if moved < SETTLED:
            break
    return here


def timed(call: Callable[[], Result]) -> tuple[float, Result]:
    """Return the CPU seconds of a call and its result."""
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


def speed(formulas: list[str]) -> pd.DataFrame:
    """Time keys, groups, fractions and descriptors of all formulas."""
    keys = composition_keys(formulas)
    sources = {"kernel mean, 1-D": KernelMean(), "kernel mean, n-D": KernelMean(form="nd"), "statistics": Statistics()}
    calls: dict[str, Callable[[], object]] = {
        "keys": lambda: composition_keys(formulas),
        "groups of splits": lambda: [group_key(key) for key in keys],
        "atomic fractions": lambda: weights(keys),
        **{f"{name} ({len(one.names)})": lambda one=one: one.describe(keys) for name, one in sources.items()},
    }
    return pd.DataFrame([{"step": name, "CPU seconds": timed(call)[0]} for name, call in calls.items()])


def inversion(fractions: np.ndarray) -> pd.DataFrame:
    """Turn descriptors back with both methods: those of recipes, and the same with noise."""
    table = []
    for form in ("1d", "nd"):
        kernel = KernelMean(form=form).kernel
        exact = kernel.transform(fractions)
        kernel.inverse(exact[:1])  # loads the solver
        for noise in (0.0, NOISE):
            given = exact + noise * np.random.default_rng(0).normal(size=exact.shape)
            seconds, (found, residual) = timed(lambda given=given, kernel=kernel: kernel.inverse(given))
            slow, other = timed(lambda given=given, kernel=kernel: projected_gradient(kernel.matrix, given))
            table.append(
                {
                    "form": form,
                    "noise": noise,
                    "CPU seconds": seconds,
                    "largest error of a fraction": np.abs(found - fractions).max(),
                    "largest residual": residual.max(),
                    "projected gradient, CPU seconds": slow,
                    "largest difference of fractions": np.abs(found - other).max(),
                }
            )
    return pd.DataFrame(table)


def main() -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-file", required=True)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        labels = open_data_file(Path(flags.data_file), cache_dir=Path(cache)).labels
    formulas = labels["formula"].unique().tolist()
    chosen = np.random.default_rng(0).choice(len(formulas), min(ROWS, len(formulas)), replace=False)
    page = [
        "# Compositions",
        "Made by `python benchmarks/compositions.py --data-file FILE`.",
        f"{len(formulas):,} distinct formulas, one thread; the width of a descriptor in brackets.",
        markdown(speed(formulas)),
        f"The inverse of {len(chosen):,} descriptors: non-negative least squares, row by row, beside projected "
        f"accelerated gradient on all rows at once. Noise: standard deviation added to each number of a descriptor.",
        markdown(inversion(weights([formulas[row] for row in chosen]))),
    ]
    write_text(RESULT, "\n\n".join(part.strip() for part in page) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
