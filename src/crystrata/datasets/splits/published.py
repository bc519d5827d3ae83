"""The JARVIS leaderboard: its benchmarks on dft_3d, which of them share a split, and their published ids, downloaded or
read: from the parquet table of all benchmarks, or the leaderboard's own files of one benchmark each.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from crystrata.errors import DataError
from crystrata.files import lock, storage_errors
from crystrata.sources.jarvis.download import LOCAL_COPY, Transport, discard, download
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


FILES_URL = (
    "https://raw.githubusercontent.com/usnistgov/jarvis_leaderboard/57afc55f94c8a6f4562f73a3173968cd4b2f83b1/"
    "jarvis_leaderboard/benchmarks/AI/SinglePropertyPrediction/"
)
"""Folder of the benchmark files at one commit, so that a run means the same ids next year."""

SUITE_GROUPS: tuple[tuple[str, ...], ...] = (
    ("formation_energy_peratom", "optb88vdw_bandgap"),
    ("ehull",),
    ("mbj_bandgap",),
    ("bulk_modulus_kv", "shear_modulus_gv"),
    ("epsx", "epsy", "epsz"),
    ("dfpt_piezo_max_dij",),
    ("spillage",),
)
"""Benchmarks of the nine properties (`ehull` is that of `ehull_official`); those of one group share validation and
test ids, so that one run serves them all. In the union protocol the test part is the union of all."""

SUITE = tuple(name for group in SUITE_GROUPS for name in group)

FURTHER_GROUPS: tuple[tuple[str, ...], ...] = (
    ("avg_elec_mass", "avg_hole_mass"),
    ("mepsx", "mepsy", "mepsz"),
    ("n_Seebeck", "n_powerfact"),
    ("optb88vdw_total_energy",),  # shares the ids of formation_energy_peratom
    *((name,) for name in ("Tc_supercon", "dfpt_piezo_max_dielectric", "encut", "exfoliation_energy",
                           "kpoint_length_unit", "magmom_oszicar", "max_efg", "ph_heat_capacity", "slme")),
)  # fmt: skip
"""Benchmarks on further columns of dft_3d."""

BENCHMARKS = (*SUITE, *(name for group in FURTHER_GROUPS for name in group))


def mates_of(benchmark: str, published: dict[str, OfficialSplit]) -> list[str]:
    """Return the published benchmarks whose validation and test ids are the same, the benchmark itself among them."""
    own = published[benchmark]
    return [name for name, split in published.items() if (split.val, split.test) == (own.val, own.test)]


def download_published(
    benchmarks: Iterable[str], folder: Path, *, transport: Transport | None = None, url: str = FILES_URL
) -> dict[str, OfficialSplit]:
    """Return the published splits of some benchmarks; files that are not in `folder` yet are downloaded.

    Args:
        benchmarks: Names of the leaderboard.
        folder: Where the files are kept.
        transport: How to reach the host.
        url: Folder of the files on the host.

    Raises:
        OfflineError: No network.
        DataError: The host refuses, or what came is no benchmark file.
        StorageError: The folder cannot be written.
    """
    published: dict[str, OfficialSplit] = {}
    for name in benchmarks:
        path = folder / f"dft_3d_{name}.json.zip"
        with lock(folder / ".lock"):
            if not path.exists():
                _fetch(f"{url}{path.name}", path, transport or Transport())
        published |= read_published(path)
    return published


def _fetch(url: str, path: Path, transport: Transport) -> None:
    """Bring one file into place, once it has been read as what it should be."""
    part = path.with_name("unfinished") / path.name  # the same name, by which it is read
    with storage_errors(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    try:
        download(url, part, transport)
        read_published(part)
    except DataError as error:
        raise type(error)(str(error).replace(LOCAL_COPY, HOW_TO_GET)) from None
    with storage_errors(path):
        os.replace(part, path)
    discard(part)
