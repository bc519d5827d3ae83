"""Published splits read: the parquet table of all benchmarks, or the leaderboard's own files of one benchmark each."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from crystrata.errors import DataError
from crystrata.tasks import PARTS

HOW_TO_GET = (
    "Give --splits-file with a parquet table of the columns benchmark, jid, split (train, val, test), or with a folder "
    "of the files dft_3d_<benchmark>.json.zip that the JARVIS leaderboard publishes "
    "(github.com/atomgptlab/jarvis_leaderboard, benchmarks/AI/SinglePropertyPrediction)"
)

_COLUMNS = ["benchmark", "jid", "split"]
_BENCHMARK_FILE = re.compile(r"dft_3d_(\w+)\.json(\.zip)?")
_MAX_TEXT_BYTES = 1 << 28  # the largest benchmark of dft_3d has 2 MB of text


@dataclass(frozen=True)
class OfficialSplit:
    """The ids that a benchmark selects and tests on; an id that is published in both is tested only.

    Attributes:
        benchmark: Name on the leaderboard.
        val: Ids of the validation part.
        test: Ids of the test part.
    """

    benchmark: str
    val: frozenset[str]
    test: frozenset[str]

    @classmethod
    def create(cls, benchmark: str, parts: Mapping[str, Collection[str]], path: Path) -> OfficialSplit:
        """Make a split from the ids of each part.

        Raises:
            DataError: A part is missing or empty.
        """
        if missing := [name for name in PARTS if not len(parts.get(name, ()))]:
            raise DataError(f"{path}: benchmark {benchmark} has no ids for {', '.join(missing)}. {HOW_TO_GET}.")
        test = frozenset(map(str, parts["test"]))
        return cls(benchmark, frozenset(map(str, parts["val"])) - test, test)


def read_published(path: Path) -> dict[str, OfficialSplit]:
    """Read published splits.

    Args:
        path: The parquet table, one file `dft_3d_<benchmark>.json.zip` (or unzipped), or a folder of such files.

    Returns:
        Benchmark -> split.

    Raises:
        DataError: The path is missing, damaged or of another form.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if _BENCHMARK_FILE.fullmatch(file.name))
        if not files:
            raise DataError(f"{path}: holds no file dft_3d_<benchmark>.json.zip. {HOW_TO_GET}.")
        found = [_benchmark_file(file) for file in files]
    elif _BENCHMARK_FILE.fullmatch(path.name):
        found = [_benchmark_file(path)]
    else:
        return _parquet(path)
    return {split.benchmark: split for split in found}


def _parquet(path: Path) -> dict[str, OfficialSplit]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=_COLUMNS)
        frame = table.to_pandas()
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: no table of splits can be read from it ({reason}). {HOW_TO_GET}.") from None
    if list(frame.columns) != _COLUMNS or frame.isna().any(axis=None):
        raise DataError(f"{path}: lacks one of the columns {', '.join(_COLUMNS)}, or has gaps in them. {HOW_TO_GET}.")
    if odd := sorted(set(map(str, frame["split"].unique())) - set(PARTS)):
        raise DataError(f"{path}: knows a part {odd[0]!r} where train, val or test is expected. {HOW_TO_GET}.")
    return {
        str(name): OfficialSplit.create(
            str(name), {str(part): ids.tolist() for part, ids in rows.groupby("split", observed=True)["jid"]}, path
        )
        for name, rows in frame.groupby("benchmark", observed=True)
    }


def _benchmark_file(path: Path) -> OfficialSplit:
    """Read a leaderboard file: {"train": {id: value, ...}, "val": {...}, "test": {...}}; values are not looked at."""
    named = _BENCHMARK_FILE.fullmatch(path.name)
    try:
        parts = json.loads(_text_of(path))
    except (OSError, ValueError, zipfile.BadZipFile, RecursionError) as error:
        raise DataError(f"{path}: is missing, cut or damaged ({error}). {HOW_TO_GET}.") from None
    if named is None or not isinstance(parts, dict) or not all(isinstance(part, dict) for part in parts.values()):
        raise DataError(f'{path}: is no benchmark file of the form {{"train": {{id: value}}, ...}}. {HOW_TO_GET}.')
    return OfficialSplit.create(named[1], {name: list(parts.get(name, ())) for name in PARTS}, path)


def _text_of(path: Path) -> bytes:
    if not path.name.endswith(".zip"):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".json")]
        if len(members) != 1 or members[0].file_size > _MAX_TEXT_BYTES:
            raise ValueError("it does not hold exactly one .json file of a sensible size")
        return archive.read(members[0])
