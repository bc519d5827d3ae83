"""Record files made compact, once: parsed record by record, written whole or not at all, and read ever after."""

from __future__ import annotations

import json
from array import array
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crystrata.files import write_atomically
from crystrata.sources.jarvis.compact import CompactColumns, LabelColumns, reduced_formulas, repeated
from crystrata.sources.jarvis.containers import damaged
from crystrata.sources.jarvis.records import crystal_of, missing_keys, number_of, read_records
from crystrata.structures.crystal import Crystal, CrystalError, Rejected

SCHEMA_VERSION = 1
"""Raise when the same records would give another compact file; older ones are then made again."""

FACTS_KEY = b"crystrata"


@dataclass(frozen=True)
class ConversionFacts:
    """What a compact file remembers of its records, stored inside the file."""

    records: int  # records in it
    rejected: list[Rejected] = field(default_factory=list)  # records that became no row
    # label column -> values that were no numbers and became NaN
    odd_values: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)  # keys that hold text or lists and became no label


def facts_of(columns: CompactColumns) -> ConversionFacts | None:
    """Return what the file remembers of its records; None for a file made elsewhere."""
    text = columns.metadata.get(FACTS_KEY)
    if text is None:
        return None
    try:
        facts = json.loads(text)
        facts.pop("source_sha256", None)  # in files of older versions
        facts["rejected"] = [Rejected(**one) for one in facts["rejected"]]
        return ConversionFacts(**facts)
    except (ValueError, TypeError, KeyError):  # written by another version
        return None


class _Rows:
    """Crystals gathered in flat arrays: 24 bytes a coordinate triple, not the hundreds of Python lists."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.spg: list[int | None] = []
        self.counts, self.numbers = array("i"), array("B")
        self.lattice, self.frac = array("d"), array("d")

    def append(self, crystal: Crystal, spg: int | None) -> None:
        self.ids.append(crystal.id)
        self.spg.append(spg)
        self.counts.append(len(crystal))
        self.numbers.extend(crystal.numbers.tolist())
        self.lattice.extend(crystal.lattice.ravel().tolist())
        self.frac.extend(crystal.frac.ravel().tolist())


def convert_records(source: Path, target: Path) -> None:
    """Write the compact form of a record file (plain, gzip or zip) to `target`, atomically.

    A DataError if the file is damaged, lacks keys, repeats ids, or holds no usable crystal.
    """
    rows, labels, rejected = _Rows(), LabelColumns(), list[Rejected]()
    ids: list[str | None] = []
    seen: set[str] = set()
    for row, record in enumerate(read_records(source)):
        if row == 0 and (missing := missing_keys(record)):
            raise damaged(source, f"holds no JARVIS records: the first one lacks {', '.join(missing)}")
        try:
            crystal = crystal_of(record, row)
            ids.append(crystal.id)
            if crystal.id in seen:
                raise CrystalError("repeated_id", f"record {row} (counted from 0) repeats the id of an earlier record")
            rows.append(crystal, _spacegroup_of(record))
            seen.add(crystal.id)
            labels.append(record)
        except CrystalError as error:
            rejected.append(Rejected(str(record.get("jid") or f"record {row}"), error.code, str(error)))
    repeated(source, ids)
    if not rows.ids:
        raise damaged(source, f"holds no usable crystal; the first one, {rejected[0].id}: {rejected[0].reason}")
    columns, odd_values, left_out = labels.finish()
    facts = ConversionFacts(len(rows.ids) + len(rejected), rejected, odd_values, left_out)
    _write(target, rows, columns, facts)


def _spacegroup_of(record: dict[str, Any]) -> int | None:
    for key in ("spg_number", "spg"):
        number = number_of(record.get(key))
        if number is not None and number == number and 1 <= number <= 230:
            return int(number)
    return None


def _write(target: Path, rows: _Rows, labels: dict[str, np.ndarray], facts: ConversionFacts) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    counts = np.array(rows.counts, dtype=np.int64)
    numbers = np.frombuffer(rows.numbers, dtype=np.uint8)

    def lists(values: np.ndarray, lengths: np.ndarray) -> pa.Array:
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))

    table = pa.table(
        {
            "jid": pa.array(rows.ids, pa.string()),
            "formula": pa.array(reduced_formulas(numbers, counts), pa.string()),
            "spg": pa.array(rows.spg, pa.int16()),
            "natoms": pa.array(counts, pa.int32()),
            "lattice": lists(np.frombuffer(rows.lattice), np.full(len(counts), 9)),
            "atomic_numbers": lists(numbers, counts),
            "frac_coords": lists(np.frombuffer(rows.frac), 3 * counts),
            # every record states its lattice as a matrix, in the frame of its own tensors
            "orientation": pa.array(["original"] * len(counts)).dictionary_encode(),
            **{name: pa.array(values, mask=np.isnan(values)) for name, values in labels.items()},
        }
    ).replace_schema_metadata({FACTS_KEY: json.dumps(asdict(facts)).encode()})
    write_atomically(target, lambda file: pq.write_table(table, file, compression="zstd", row_group_size=8192))
