"""JARVIS data opened as a crystal table. R rows of the file, B usable crystals."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crystrata.files import lock, sha256_of, write_text
from crystrata.sources.jarvis.cached import obtain
from crystrata.sources.jarvis.checks import crystals_digest, unusable_rows
from crystrata.sources.jarvis.compact import CompactColumns, file_stamp, read_columns, reduced_formulas, stream_crystals
from crystrata.sources.jarvis.containers import damaged, form_of
from crystrata.sources.jarvis.convert import SCHEMA_VERSION, ConversionFacts, convert_records, facts_of
from crystrata.sources.jarvis.download import get_release
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Rejected


def open_data_file(path: Path, *, cache_dir: Path) -> CrystalTable:
    """Open a local JARVIS file, by content: records (.json, .json.gz, .json.zip) or the compact parquet form.

    Records are converted once into the compact form under `cache_dir`, where lists of rejected crystals are written
    too. The table is named after the file.

    Raises:
        DataError: The file is missing, cut, damaged, or lacks what a JARVIS file has.
        StorageError: `cache_dir` cannot be written.
    """
    path = Path(path)
    form = form_of(path)
    return _open(path, form == "parquet", sha256_of(path), Path(cache_dir), path.name, {"release": None})


def open_release(
    name: str = "dft_3d_2021", *, cache_dir: Path, progress: Callable[[int, int | None], None] | None = None
) -> CrystalTable:
    """Open an official JARVIS-DFT release; the first time it is downloaded, checked and converted.

    The table has the name of the release. `progress` is called with bytes so far and bytes in all (None where the host
    does not say).

    Raises:
        UsageError: No release has that name.
        DataError: No network, or the file is not what the host published or what was recorded here.
        StorageError: `cache_dir` cannot be written.
    """
    release = get_release(name)
    file = obtain(release, cache_dir=Path(cache_dir), progress=progress)
    origin = {"release": release.name, "url": release.url, "md5": file.md5, "checked_by": file.checked_by}
    return _open(file.path, form_of(file.path) == "parquet", file.sha256, Path(cache_dir), release.name, origin)


def _open(
    path: Path, is_compact: bool, sha256: str, cache_dir: Path, name: str, origin: dict[str, Any]
) -> CrystalTable:
    stem = re.sub(r"(\.(json|parquet|gz|zip))+$", "", path.name)
    cached = cache_dir / f"{stem}-{sha256[:16]}-v{SCHEMA_VERSION}.parquet"
    compact = path if is_compact else cached
    columns = read_columns(path) if is_compact else _converted(path, cached, sha256)
    facts = facts_of(columns) or ConversionFacts(len(columns.ids))
    unusable = unusable_rows(compact, columns)
    rejected = [*facts.rejected, *unusable.values()]
    keep = np.ones(len(columns.ids), dtype=bool)
    keep[list(unusable)] = False
    if not keep.any():
        raise damaged(path, f"holds no usable crystal; the first one, {rejected[0].id}: {rejected[0].reason}")
    provenance: dict[str, Any] = {"file": path.name, **origin, "rows": int(keep.sum()), "rejected": len(rejected)}
    if rejected:
        listed = cached.with_suffix(".rejected.csv")
        _write_rejected(listed, rejected)
        provenance["rejected_file"] = listed.name
    provenance |= {"sha256": sha256, "odd_values": facts.odd_values, "left_out": facts.left_out + columns.left_out}
    stamp, frame_given = file_stamp(compact), columns.frame_given()
    return CrystalTable(
        name=name,
        digest=crystals_digest(columns, keep),
        labels=_labels(columns, keep),
        crystals=lambda: stream_crystals(compact, keep, frame_given, stamp),
        provenance=provenance,
    )


def _converted(path: Path, cached: Path, sha256: str) -> CompactColumns:
    """Return the columns of the converted file, made first if it is not there or is not what was written."""
    written = cached.with_suffix(".parquet.sha256")

    def is_sound() -> bool:
        return cached.exists() and written.exists() and written.read_bytes() == sha256_of(cached).encode()

    if is_sound():  # without the lock: the folder of others may not be writable
        return read_columns(cached)
    with lock(cached.with_suffix(".lock")):
        if not is_sound():
            convert_records(path, cached)
            write_text(written, sha256_of(cached))
        return read_columns(cached)


def _labels(columns: CompactColumns, keep: np.ndarray) -> pd.DataFrame:
    ids = [id for id, kept in zip(columns.ids, keep.tolist(), strict=True) if kept]
    numbers = columns.numbers.values[np.repeat(keep, columns.numbers.lengths)]
    data: dict[str, Any] = {name: values[keep] for name, values in columns.labels.items()}
    data["formula"] = reduced_formulas(numbers, columns.numbers.lengths[keep])
    data["orientation"] = columns.orientation[keep]
    if columns.spacegroup is not None:
        data["spacegroup"] = columns.spacegroup[keep]
    return pd.DataFrame(data, index=pd.Index(ids, name="id"))


def _write_rejected(path: Path, rejected: list[Rejected]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "code", "reason"))
    writer.writerows((one.id, one.code, one.reason) for one in rejected)
    if not path.exists() or path.read_text(encoding="utf-8") != text.getvalue():
        write_text(path, text.getvalue())
