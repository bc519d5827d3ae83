"""The JARVIS leaderboard: its benchmarks on dft_3d, which of them share a split, and the download of their ids."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from crystrata.datasets.splits.published import HOW_TO_GET, OfficialSplit, read_published
from crystrata.errors import DataError
from crystrata.files import lock, storage_errors
from crystrata.sources.jarvis.download import LOCAL_COPY, Transport, discard, download

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
