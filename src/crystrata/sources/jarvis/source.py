"""JARVIS data opened as a crystal table: its usable rows and their digest. R rows of the file, B usable crystals."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crystrata.elements import MAX_ATOMIC_NUMBER
from crystrata.files import lock, sha256_of, write_text
from crystrata.sources.jarvis.cached import obtain
from crystrata.sources.jarvis.compact import (
    CompactColumns,
    file_stamp,
    read_columns,
    reduced_formulas,
    repeated,
    stream_crystals,
)
from crystrata.sources.jarvis.containers import damaged, form_of
from crystrata.sources.jarvis.convert import SCHEMA_VERSION, ConversionFacts, convert_records, facts_of
from crystrata.sources.jarvis.download import get_release
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import MIN_VOLUME_PER_ATOM, Crystal, CrystalError, Rejected


def open_data_file(path: Path, *, cache_dir: Path) -> CrystalTable:
    """Open a local JARVIS file, by content: records (.json, .json.gz, .json.zip) or the compact parquet form.

    Records are converted once into the compact form under `cache_dir`, where lists of rejected crystals are written
    too. The table is named after the file. A DataError if it is missing, cut, damaged, or lacks what a JARVIS file has.
    """
    path = Path(path)
    form = form_of(path)
    return _open(path, form == "parquet", sha256_of(path), Path(cache_dir), path.name, {"release": None})


def open_release(
    name: str = "dft_3d_2021", *, cache_dir: Path, progress: Callable[[int, int | None], None] | None = None
) -> CrystalTable:
    """Open an official JARVIS-DFT release; the first time it is downloaded, checked and converted.

    The table has the name of the release. `progress` is called with bytes so far and bytes in all (None where the host
    does not say). A UsageError if no release has that name; a DataError without network, or if the file is not what the
    host published or what was recorded here.
    """
    release = get_release(name)
    path, receipt = obtain(release, cache_dir=Path(cache_dir), progress=progress)
    origin = {"release": release.name, "url": release.url, "md5": receipt.md5, "checked_by": receipt.checked_by}
    return _open(path, form_of(path) == "parquet", receipt.sha256, Path(cache_dir), release.name, origin)


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


_DIGEST_VERSION = b"crystals 1\n"


def unusable_rows(path: Path, columns: CompactColumns) -> dict[int, Rejected]:
    """Return row -> rejection for every row that makes no crystal; a DataError if too many ids repeat.

    Suspects are found on whole columns; `Crystal.create` alone decides.
    """
    rejected: dict[int, Rejected] = {}
    starts = [np.cumsum(column.lengths) - column.lengths for column in (columns.lattice, columns.numbers, columns.frac)]
    for row in np.flatnonzero(_suspects(columns)).tolist():
        parts = [
            column.values[start[row] : start[row] + column.lengths[row]]
            for column, start in zip((columns.lattice, columns.numbers, columns.frac), starts, strict=True)
        ]
        name = columns.ids[row] or f"row {row}"
        try:
            Crystal.create(name, *parts)
        except CrystalError as error:
            rejected[row] = Rejected(name, error.code, str(error))
    for row, id in enumerate(columns.ids):
        if not id:
            rejected[row] = Rejected(f"row {row}", "no_id", "the row has no jid")
    for row in repeated(path, columns.ids):
        rejected[row] = Rejected(str(columns.ids[row]), "repeated_id", f"row {row} repeats the id of an earlier row")
    return rejected


def _suspects(columns: CompactColumns) -> np.ndarray:
    lattice, numbers, frac = columns.lattice, columns.numbers, columns.frac
    suspect = (lattice.lengths != 9) | (numbers.lengths == 0) | (frac.lengths != 3 * numbers.lengths)
    suspect[lattice.rows()[~np.isfinite(lattice.values)]] = True
    suspect[frac.rows()[~np.isfinite(frac.values)]] = True
    suspect[numbers.rows()[(numbers.values < 1) | (numbers.values > MAX_ATOMIC_NUMBER)]] = True
    sound = ~suspect
    cells = lattice.values[np.repeat(sound, lattice.lengths)].reshape(-1, 3, 3)
    volumes = np.abs(np.linalg.det(cells)) / numbers.lengths[sound]
    suspect[np.flatnonzero(sound)[volumes < 1.001 * MIN_VOLUME_PER_ATOM]] = True
    found: np.ndarray = suspect
    return found


def crystals_digest(columns: CompactColumns, keep: np.ndarray) -> str:
    """Return the SHA-256 over all that makes the usable crystals (keep, (R,) bool), without labels."""
    digest = hashlib.sha256(_DIGEST_VERSION)
    ids = [id for id, kept in zip(columns.ids, keep.tolist(), strict=True) if kept]
    digest.update("\n".join(map(str, ids)).encode() + b"\n")
    digest.update(columns.frame_given()[keep].astype("u1").tobytes())
    for column, kind in ((columns.lattice, "<f8"), (columns.numbers, "u1"), (columns.frac, "<f8")):
        digest.update(column.lengths[keep].astype("<i8").tobytes())
        digest.update(column.values[np.repeat(keep, column.lengths)].astype(kind).tobytes())
    return digest.hexdigest()
