"""The run directory: a name that never collides, and the names of the artifacts inside."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

from crystrata.errors import UsageError
from crystrata.files import storage_errors

BEST = "best.pt"
CALIBRATION = "calibration.pt"
CHECKPOINT = "checkpoint.pt"
HISTORY = "history.json"
RESULTS = "results.json"
MANIFEST = "run_manifest.json"
SPLITS = "splits.json"
CONFIG = "config.json"
TABLE_CSV = "mae_table.csv"
TABLE_MD = "mae_table.md"
REPORT = "report.html"
LOGS = "logs"
RUN_LOG = "run.log"
TOP = "top"
PREDICTIONS = "test_predictions.csv"
TASK_PREDICTIONS = "predictions"
OFFICIAL = "official_predictions.csv"
OUTLIERS = "outliers.csv"
REJECTED = "rejected.csv"
RUN_LOCK = ".lock"

ARTIFACTS: dict[str, str] = {
    BEST: "weights of the best validation score, with configuration and scaling: what inference loads; `top/` has "
    "those of the best epochs, as many as `--top-k` says",
    CALIBRATION: "errors and latents of the validation crystals, from which inference makes intervals and warnings; "
    "belongs beside `best.pt`",
    CHECKPOINT: "complete state between two steps: what `--resume` continues; `checkpoint.1.pt`, ... are earlier ones",
    HISTORY: "per epoch: losses, MAE per property, score, learning rate, sigma of each task, seconds",
    RESULTS: "validation and test MAE, RMSE, R2 and count per property in physical units, skill, score; official "
    "tests; coverage and width of the intervals on the test part",
    MANIFEST: "algorithm, mode, flags, seed, versions, data and split digests, device, git state, status, times",
    RUN_LOG: "what the run printed, from the command line to the table of errors; a continued run adds to it",
    SPLITS: "ids of the training, validation and test crystals",
    CONFIG: "the resolved configuration",
    OUTLIERS: "labels that the outlier check speaks against: value, score, reason, and whether training masks them",
    TASK_PREDICTIONS + "/": "label and prediction of every task, a parquet table each, for the materials that it "
    "asks for (the test part unless `predict_idx` says otherwise): `key`, `composition` as your tables write it and in "
    "their order, `t` or `component`, `true`, `pred`",
    TABLE_CSV: "MAE per property beside MAD, median baseline and published models",
    TABLE_MD: "the same table for reading, the official tests of a published protocol, and the intervals",
    PREDICTIONS: "label and prediction of every test crystal, in physical units",
    OFFICIAL: "label and prediction of every crystal of each whole official test: what `crystrata leaderboard` hands "
    "in; no rows under other protocols",
    REPORT: "self-contained page with table, parity plots, learning curves and facts",
}
"""File name -> what it holds; the manual's table is made from it."""

_PREFIX = "run_"


def create_run_dir(family: Path, run_id: str | None = None) -> Path:
    """Make a new run directory `run_<time>_<id>` under a family's folder.

    Raises:
        UsageError: The name that was asked for is taken or is no plain name.
        StorageError: The folder cannot be made.
    """
    require_free(family, run_id)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name = run_id or f"{stamp}_{secrets.token_hex(2)}"
    path = family / _directory_name(name)
    with storage_errors(path):
        family.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir()
        except FileExistsError:
            if run_id is None:
                return create_run_dir(family)
            raise UsageError(f"run {path} exists; choose another --run-id or continue it with --resume") from None
    return path


def require_free(family: Path, run_id: str | None) -> None:
    """Refuse the name of a run directory that is taken or is no plain name.

    Raises:
        UsageError: It is.
    """
    if run_id is None:
        return
    if not is_plain_name(run_id):
        raise UsageError(f"--run-id must be a plain name, not {run_id!r}")
    path = family / _directory_name(run_id)
    if path.exists():
        raise UsageError(f"run {path} exists; choose another --run-id or continue it with --resume")


def _directory_name(name: str) -> str:
    return name if name.startswith(_PREFIX) else _PREFIX + name


def is_plain_name(name: str) -> bool:
    """Return whether a name can be that of a run directory: no path, nothing hidden."""
    return bool(name) and Path(name).name == name and not name.startswith(".")
