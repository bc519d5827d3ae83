"""The official JARVIS-DFT 3D releases as data: where each is, and what its host says of it."""

from __future__ import annotations

from dataclasses import dataclass

from crystrata.errors import unknown_name

FILES_URL = "https://api.figshare.com/v2/articles/6815699/files?page_size=100"
"""Host's list of all files of the data set (doi 10.6084/m9.figshare.6815699): id, name, size, MD5."""


@dataclass(frozen=True)
class Release:
    """One published file of JARVIS-DFT 3D.

    Attributes:
        name: Name in flags and manifests.
        url: Address of the file.
        file_id: The host's number of the file, by which `files_url` lists it.
        file_name: Name of the file in the cache.
        md5: MD5 that the host publishes; None where it must be asked for at download time.
        rows: Records in the file, None where unknown; information for people, the count is taken from the file.
        files_url: The host's list of files with their MD5.
    """

    name: str
    url: str
    file_id: int
    file_name: str
    md5: str | None = None
    rows: int | None = None
    files_url: str = FILES_URL


def _release(name: str, file_id: int, file_name: str, *, md5: str | None = None, rows: int | None = None) -> Release:
    return Release(name, f"https://ndownloader.figshare.com/files/{file_id}", file_id, file_name, md5, rows)


RELEASES: dict[str, Release] = {
    release.name: release
    for release in (
        _release("dft_3d_2021", 29204826, "jdft_3d-8-18-2021.json.zip", rows=55_723),
        _release("dft_3d_2022", 38521619, "jdft_3d-12-12-2022.json.zip", md5="fb3e1eb80339a70ff313af1c644c1777",
                 rows=75_993),
        _release("dft_3d_2025", 64391379, "jdft_3d-9-24-2025.json.zip", md5="c3179161ef0d029cf1fa70da463aac6e",
                 rows=93_902),
    )
}  # fmt: skip
"""Name -> release. `dft_3d`, as the data set is called without a year, changes its meaning over time: see ALIASES."""

ALIASES: dict[str, str] = {"dft_3d": "dft_3d_2022"}
"""`dft_3d` is fixed to the 12-12-2022 release, so that a run means the same data next year."""


def get_release(name: str) -> Release:
    """Return a release by name; a UsageError that names the nearest one if none has it."""
    try:
        return RELEASES[ALIASES.get(name, name)]
    except KeyError:
        raise unknown_name("JARVIS release", name, [*RELEASES, *ALIASES]) from None
