"""The JARVIS source: four file forms give one table, damaged files are refused, downloads recover."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import re
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crystrata.elements import SYMBOLS
from crystrata.errors import DataError, UsageError
from crystrata.sources.jarvis import RELEASES, Release, containers, open_data_file, open_release, source
from crystrata.sources.jarvis.cached import obtain
from crystrata.sources.jarvis.compact import reduced_formulas
from crystrata.sources.jarvis.download import Transport, get_release
from crystrata.structures.crystal import reduced_formula

Record = dict[str, Any]

CELLS = [
    (["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    (["Si", "Si"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    (["Ga", "As"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    (["Ti", "Ti", "O", "O", "O", "O"], [[0.1 * i, 0.05 * i, 0.15 * i] for i in range(6)]),
    (["Fe"], [[0, 0, 0]]),
    (["V", "Se", "Se"], [[0, 0, 0], [0.3, 0.3, 0.3], [0.7, 0.7, 0.7]]),
]


def make_records(copies: int = 1) -> list[Record]:
    """Six crystals (times `copies`, under other ids) in the schema of the official download."""
    rows = []
    for row in range(6 * copies):
        elements, coords = CELLS[row % 6]
        edge = 4.0 + 0.1 * row
        rows.append(
            {
                "jid": f"JVASP-{row}",
                "formula": "as the file has it",
                "spg_number": 225 - row % 6,
                "func": "OptB88vdW",
                "atoms": {
                    "lattice_mat": [[edge, 0.0, 0.0], [0.2, edge, 0.0], [0.0, 0.1, edge]],
                    "coords": [list(position) for position in coords],
                    "elements": list(elements),
                    "cartesian": False,
                    "abc": [edge] * 3,
                    "angles": [90.0] * 3,
                    "props": [""] * len(elements),
                },
                "formation_energy_peratom": -0.5 * row,
                "mbj_bandgap": "na" if row % 2 else 1.5 + row,
                "spillage": [None, "", "NaN", float("nan"), "0.25", 3][row % 6],
                "efg": [[1, 2], "na", "na", "na", "na", "na"][row % 6],
            }
        )
    return rows


def write(path: Path, records: object) -> Path:
    """Write records in the form that the name tells."""
    text = json.dumps(records).encode()
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text))
    elif path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("records.json", text)
    else:
        path.write_bytes(text)
    return path


def write_compact(path: Path, records: list[Record]) -> Path:
    """Write the compact parquet form, as pandas makes it."""
    pd.DataFrame(
        {
            "jid": [r["jid"] for r in records],
            "formula": [r["formula"] for r in records],
            "spg": np.array([r["spg_number"] for r in records], dtype=np.int16),
            "lattice": [np.ravel(r["atoms"]["lattice_mat"]) for r in records],
            "atomic_numbers": [[SYMBOLS.index(e) + 1 for e in r["atoms"]["elements"]] for r in records],
            "frac_coords": [np.ravel(r["atoms"]["coords"]).astype(float) for r in records],
            "orientation": pd.Categorical(["original"] * len(records)),
            "formation_energy_peratom": [r["formation_energy_peratom"] for r in records],
            "mbj_bandgap": [None if r["mbj_bandgap"] == "na" else r["mbj_bandgap"] for r in records],
            "spillage": ([np.nan] * 4 + [0.25, 3.0]) * (len(records) // 6),
        }
    ).to_parquet(path)
    return path


def write_any(path: Path, records: list[Record]) -> Path:
    return write_compact(path, records) if path.suffix == ".parquet" else write(path, records)


def open_file(path: Path) -> Any:
    return open_data_file(path, cache_dir=path.parent / "cache")


FORMS = ["r.json", "r.json.gz", "r.json.zip", "r.parquet"]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("disguise", [False, True], ids=["named", "misnamed"])
def test_every_form_gives_the_same_table(tmp_path: Path, name: str, disguise: bool) -> None:
    reference = open_file(write(tmp_path / "reference.json", make_records()))
    path = write_any(tmp_path / name, make_records())
    if disguise:
        path = path.rename(tmp_path / "anything.bin")
    table = open_file(path)
    pd.testing.assert_frame_equal(table.labels, reference.labels, check_dtype=False)
    assert table.digest == reference.digest
    assert table.name == path.name
    assert table.provenance["rows"] == 6
    assert table.provenance["rejected"] == 0
    assert table.provenance["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    for record, crystal in zip(make_records(), table.crystals(), strict=True):
        assert crystal.id == record["jid"]
        np.testing.assert_array_equal(crystal.lattice, record["atoms"]["lattice_mat"])
        np.testing.assert_array_equal(crystal.frac, record["atoms"]["coords"])
        assert [SYMBOLS[z - 1] for z in crystal.numbers] == record["atoms"]["elements"]
        assert crystal.orientation_given


def test_labels(tmp_path: Path) -> None:
    labels = open_file(write(tmp_path / "r.json", make_records())).labels
    assert labels.index.name == "id"
    assert labels.index.tolist() == [f"JVASP-{i}" for i in range(6)]
    assert set(labels) == {
        "formation_energy_peratom", "mbj_bandgap", "spillage", "formula", "orientation", "spacegroup"
    }  # fmt: skip
    np.testing.assert_array_equal(labels["mbj_bandgap"], [1.5, np.nan, 3.5, np.nan, 5.5, np.nan])
    np.testing.assert_array_equal(labels["spillage"], [np.nan] * 4 + [0.25, 3.0])
    assert all(labels[name].dtype == np.float64 for name in ("formation_energy_peratom", "mbj_bandgap", "spillage"))
    assert labels["formula"].tolist() == ["ClNa", "Si", "AsGa", "O2Ti", "Fe", "Se2V"]
    assert labels["spacegroup"].tolist() == [225, 224, 223, 222, 221, 220]
    assert set(labels["orientation"]) == {"original"}


def test_cartesian_coordinates_become_fractional(tmp_path: Path) -> None:
    records = make_records()
    for record in records:
        atoms = record["atoms"]
        atoms["coords"] = (np.array(atoms["coords"]) @ np.array(atoms["lattice_mat"])).tolist()
        atoms["cartesian"] = True
    for crystal, record in zip(open_file(write(tmp_path / "c.json", records)).crystals(), make_records(), strict=True):
        np.testing.assert_allclose(crystal.frac, record["atoms"]["coords"], atol=1e-12)


def test_odd_values_and_keys_that_come_later(tmp_path: Path) -> None:
    records = make_records(4)
    records[3]["formation_energy_peratom"] = "see text"
    records[20]["late"] = 7
    table = open_file(write(tmp_path / "r.json", records))
    assert table.provenance["odd_values"] == {"formation_energy_peratom": 1}
    assert table.provenance["left_out"] == ["func", "efg"]
    assert table.labels["formation_energy_peratom"].isna().sum() == 1
    assert np.flatnonzero(table.labels["late"].notna()).tolist() == [20]


def test_label_changes_keep_the_digest_and_crystal_changes_do_not(tmp_path: Path) -> None:
    digest = open_file(write(tmp_path / "a.json", make_records())).digest
    records = make_records()
    records[2]["formation_energy_peratom"] = 99.0
    assert open_file(write(tmp_path / "b.json", records)).digest == digest
    changes: list[Callable[[Record], object]] = [
        lambda r: r.update(jid="JVASP-x"),
        lambda r: r["atoms"].update(elements=["Ga", "P"]),
        lambda r: r["atoms"].update(coords=[[0, 0, 0], [0.25, 0.25, 0.26]]),
        lambda r: r["atoms"]["lattice_mat"][0].__setitem__(0, 5.0),
    ]
    digests = {digest}
    for number, change in enumerate(changes):
        records = make_records()
        change(records[2])
        digests.add(open_file(write(tmp_path / f"{number}.json", records)).digest)
    assert len(digests) == 1 + len(changes)


def test_records_are_parsed_once_and_a_damaged_cache_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    convert = source.convert_records
    monkeypatch.setattr(source, "convert_records", lambda *a: (calls.append(a), convert(*a)))
    path = write(tmp_path / "r.json.gz", make_records())
    first = open_file(path)
    assert open_file(path).digest == first.digest
    assert len(calls) == 1
    (cached,) = (tmp_path / "cache").glob("*.parquet")
    whole = cached.read_bytes()
    flipped = [whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :] for at in range(0, len(whole), 199)]
    for damage in (whole[: len(whole) // 2], b"", *flipped):
        cached.write_bytes(damage)
        again = open_file(path)
        assert again.labels.equals(first.labels)
        assert again.digest == first.digest
    assert len(calls) == 3 + len(flipped)
    write(path, make_records()[:5])  # another file under the same name
    assert len(open_file(path)) == 5


@pytest.mark.parametrize("name", FORMS)
def test_unusable_crystals_are_listed_and_rows_stay_aligned(tmp_path: Path, name: str) -> None:
    records = make_records()
    records[1]["atoms"]["lattice_mat"] = [[0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]]
    records[4]["atoms"]["coords"] = [[0, 0, 0], [0.5, 0.5, 0.5]]
    table = open_file(write_any(tmp_path / name, records))
    assert table.labels.index.tolist() == ["JVASP-0", "JVASP-2", "JVASP-3", "JVASP-5"]
    assert [crystal.id for crystal in table.crystals()] == table.labels.index.tolist()
    assert table.labels["formation_energy_peratom"].tolist() == [0.0, -1.0, -1.5, -2.5]
    assert table.labels["formula"].tolist() == ["ClNa", "AsGa", "O2Ti", "Se2V"]
    assert table.provenance["rejected"] == 2
    with open(tmp_path / "cache" / table.provenance["rejected_file"], encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    assert [(row["id"], row["code"]) for row in listed] == [("JVASP-1", "bad_cell"), ("JVASP-4", "bad_numbers")]
    assert open_file(tmp_path / name).provenance == table.provenance  # also when read back from the cache


def test_unusable_records_of_every_kind(tmp_path: Path) -> None:
    records = make_records(3)
    records[1]["atoms"]["elements"] = ["Wat", "Si"]
    records[2]["atoms"]["coords"][0][0] = float("nan")
    del records[3]["atoms"]["coords"]
    records[4]["jid"] = None
    records[5]["atoms"] = "na"
    records[6]["atoms"].update(elements=[], coords=[])
    table = open_file(write(tmp_path / "r.json", records))
    with open(tmp_path / "cache" / table.provenance["rejected_file"], encoding="utf-8") as file:
        codes = [row["code"] for row in csv.DictReader(file)]
    assert codes == ["unknown_species", "not_finite", "missing_keys", "no_id", "missing_keys", "empty"]
    assert len(table) == len(list(table.crystals())) == 12


@pytest.mark.parametrize("name", FORMS)
def test_a_file_cut_in_half_is_refused_with_name_and_mend(tmp_path: Path, name: str) -> None:
    path = write_any(tmp_path / name, make_records(40))
    whole = path.read_bytes()
    for size in (len(whole) // 2, len(whole) - 1, 30, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=rf"(?s){re.escape(str(path))}.*again.*--data-file"):
            open_file(path)
    assert not list((tmp_path / "cache").glob("*.parquet"))


@pytest.mark.parametrize("name", FORMS[1:])
def test_a_flipped_byte_is_refused_or_without_effect(tmp_path: Path, name: str) -> None:
    path = write_any(tmp_path / name, make_records())
    table, whole = open_file(path), path.read_bytes()
    refused = 0
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            if name != "r.parquet":  # its pages carry no checksums when written elsewhere
                assert open_file(path).labels.equals(table.labels)
        except DataError:
            refused += 1
    assert refused or name == "r.parquet"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x00\x01\x02garbage", "unknown form"),
        (b'{"message": "not found"}', "JSON list of records"),
        (b"[]", "holds no record"),
        (b"[1, 2]", "no JSON object"),
        (b'[{"jid": "a"}', "cut|lacks"),
        (b'[{"jid": "JVASP-1", "atoms": {"coords": []}}]', r"lacks atoms\.lattice_mat, atoms\.elements"),
        (b'[{"formula": "Si"}]', "lacks jid, atoms"),
        (b"[" * 100_000, "cut or no JSON"),
        (b'[{"a": "\xff\xfe"}]', "UTF-8"),
        (b'[{"a": ' + b"9" * 5000 + b"}]", "no JSON"),
    ],
)
def test_garbage_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json: cannot be read"):
        open_file(tmp_path / "nowhere.json")
    with pytest.raises(DataError, match="cannot be read"):
        open_file(tmp_path)


def test_missing_and_wrong_columns_are_named(tmp_path: Path) -> None:
    path = write_compact(tmp_path / "r.parquet", make_records())
    frame = pd.read_parquet(path)
    frame.drop(columns=["lattice", "frac_coords"]).to_parquet(path)
    with pytest.raises(DataError, match="lacks the columns lattice, frac_coords"):
        open_file(path)
    frame.assign(jid=b"JVASP").to_parquet(path)
    with pytest.raises(DataError, match="column jid of type binary"):
        open_file(path)
    frame.assign(lattice=1.0).to_parquet(path)
    with pytest.raises(DataError, match="column lattice of type double"):
        open_file(path)


@pytest.mark.parametrize("name", ["r.json", "r.parquet"])
def test_repeated_ids(tmp_path: Path, name: str) -> None:
    records = make_records()
    records[5]["jid"] = "JVASP-2"
    with pytest.raises(DataError, match=r"repeats 1 of 6 jids, such as JVASP-2 \(2 times\)"):
        open_file(write_any(tmp_path / name, records))
    # the official 2021 release repeats 11 of 55,723: a stray few are listed, the first of each stays
    records = make_records(40)
    records[100]["jid"] = "JVASP-2"
    table = open_file(write_any(tmp_path / f"many-{name}", records))
    assert len(table) == len(list(table.crystals())) == 239
    assert table.labels.index.is_unique
    assert table.labels.loc["JVASP-2", "formation_energy_peratom"] == -1.0
    assert "repeated_id" in (tmp_path / "cache" / table.provenance["rejected_file"]).read_text(encoding="utf-8")


def test_zip_must_hold_one_json_file(tmp_path: Path) -> None:
    path = tmp_path / "r.zip"
    for members in ([], ["a.json", "b.json"]):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "text")
            for member in members:
                archive.writestr(member, "[]")
        with pytest.raises(DataError, match=rf"exactly one \.json file, but holds {len(members)}"):
            open_file(path)


@pytest.mark.parametrize("name", ["bomb.json.gz", "bomb.json.zip"])
def test_a_bomb_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "RATIO_FROM_BYTES", 1 << 20)
    path = write(tmp_path / name, [" " * (8 << 20)])
    with pytest.raises(DataError, match="unpacks to more than"):
        open_file(path)


def test_labels_never_meet_the_crystals_of_another_file(tmp_path: Path) -> None:
    path = write_compact(tmp_path / "r.parquet", make_records())
    table = open_file(path)
    write_compact(path, make_records()[::-1])
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="changed since"):
        next(table.crystals())


def test_formulas_of_a_column_agree_with_the_single_one() -> None:
    rng = np.random.default_rng(0)
    cells = [rng.integers(1, len(SYMBOLS) + 1, size=rng.integers(1, 30)) % 12 + 1 for _ in range(300)]
    cells += [np.arange(1, len(SYMBOLS) + 1), np.array([6] * 140)]
    found = reduced_formulas(np.concatenate(cells).astype(np.uint8), np.array([len(cell) for cell in cells]))
    assert found == [reduced_formula(cell) for cell in cells]


# --- downloads, against a server on this machine -------------------------------------------------------------------


@dataclass
class Host:
    """A file host whose manners each test chooses."""

    body: bytes
    cut_after: list[int] = field(default_factory=list)  # bytes sent before each of the next connections breaks
    ranges: bool = True
    stated: int | None = None
    content_type: str = "application/zip"
    status: int = 200
    location: str | None = None
    stall: bool = False  # stay silent rather than break
    etag: str = '"one"'
    listed_md5: str | None = None
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.path == "/files":
            listed = [] if self.listed_md5 is None else [{"id": 7, "computed_md5": self.listed_md5}]
            self._send(request, 200, json.dumps(listed).encode(), {"Content-Type": "application/json"})
            return
        asked = request.headers.get("Range", "")
        self.requests.append(asked)
        if self.location:
            self._send(request, 302, b"", {"Location": self.location})
            return
        start = int(asked.removeprefix("bytes=").rstrip("-") or 0)
        headers = {"Content-Type": self.content_type, "ETag": self.etag}
        if self.ranges and start and request.headers.get("If-Range", self.etag) == self.etag:
            headers["Content-Range"] = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
            self._send(request, 206, self.body[start:], headers)
        else:
            self._send(request, self.status, self.body, headers)

    def _send(self, request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(self.stated or len(body)))
        request.end_headers()
        cut = self.cut_after.pop(0) if self.cut_after and request.path != "/files" else len(body)
        request.wfile.write(body[:cut])
        if self.stall and cut < len(body):
            sleep(1)

    def release(self, **changes: Any) -> Release:
        return Release("drill", f"{self.url}/file", 7, "drill.json.zip", files_url=f"{self.url}/files", **changes)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    behaviour = Host(write(tmp_path / "published.json.zip", make_records(40)).read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        behaviour.url = f"http://127.0.0.1:{server.server_port}"
        yield behaviour
        server.shutdown()
        thread.join()


def transport(attempts: int = 3, **changes: Any) -> Transport:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return Transport(direct, **{"timeout": 5, "attempts": attempts, "pause": 0, **changes})


def fetch(host: Host, folder: Path, *, attempts: int = 3, **changes: Any) -> Any:
    return obtain(host.release(**changes), cache_dir=folder, transport=transport(attempts))


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


KEPT = {"drill.json.zip", "drill.json.zip.json"}


def test_download_is_checked_recorded_and_done_once(tmp_path: Path, host: Host) -> None:
    host.listed_md5 = md5(host.body)
    seen: list[tuple[int, int | None]] = []
    path, receipt = obtain(
        host.release(), cache_dir=tmp_path / "c", transport=transport(), progress=lambda *s: seen.append(s)
    )
    assert path.read_bytes() == host.body
    assert (receipt.sha256, receipt.checked_by) == (hashlib.sha256(host.body).hexdigest(), "host_md5")
    assert seen[-1] == (len(host.body), len(host.body))
    assert leftovers(tmp_path / "c") == KEPT
    assert fetch(host, tmp_path / "c") == (path, receipt)
    assert len(host.requests) == 1


def test_a_cut_download_goes_on_within_one_call(tmp_path: Path, host: Host) -> None:
    host.cut_after = [1000, 500]
    assert fetch(host, tmp_path / "c")[0].read_bytes() == host.body
    assert host.requests == ["", "bytes=1000-", "bytes=1500-"]


def test_a_cut_download_goes_on_in_the_next_call(tmp_path: Path, host: Host) -> None:
    host.cut_after = [1000, 500]
    with pytest.raises(DataError, match=r"cut 2 times.*goes on from 1500 bytes"):
        fetch(host, tmp_path / "c", attempts=2)
    assert not (tmp_path / "c" / "drill.json.zip").exists()
    assert fetch(host, tmp_path / "c")[0].read_bytes() == host.body
    assert host.requests[-1] == "bytes=1500-"
    assert leftovers(tmp_path / "c") == KEPT


def test_a_stall_loses_nothing(tmp_path: Path, host: Host) -> None:
    host.cut_after, host.stall = [1000, 500], True
    patient = transport(timeout=0.2)
    assert obtain(host.release(), cache_dir=tmp_path / "c", transport=patient)[0].read_bytes() == host.body
    assert host.requests == ["", "bytes=1000-", "bytes=1500-"]


def test_every_address_on_the_way_must_be_safe(tmp_path: Path, host: Host) -> None:
    host.location = "http://crystrata.invalid/file"
    with pytest.raises(DataError, match=r"http://crystrata\.invalid: refused, only https is safe"):
        fetch(host, tmp_path / "c")


def test_a_host_that_sends_in_circles_is_one_line(tmp_path: Path, host: Host) -> None:
    host.location = "/file"
    with pytest.raises(DataError, match=r"302[^\n]*--data-file PATH[^\n]*$"):
        fetch(host, tmp_path / "c")


@pytest.mark.parametrize("stated", [True, False])
def test_a_file_without_end_is_refused(tmp_path: Path, host: Host, stated: bool) -> None:
    impatient = transport(max_bytes=len(host.body) - 1)
    if not stated:
        host.stated = -1  # no number: the length is not known
    with pytest.raises(DataError, match=r"the file is longer than 0 MiB"):
        obtain(host.release(), cache_dir=tmp_path / "c", transport=impatient)
    assert leftovers(tmp_path / "c") == set()
    assert len(host.requests) == 1


def test_what_a_call_killed_at_its_end_left_is_removed(tmp_path: Path, host: Host) -> None:
    fetch(host, tmp_path / "c")
    (tmp_path / "c" / "drill.json.zip.part.json").write_text("{}")
    fetch(host, tmp_path / "c")
    assert leftovers(tmp_path / "c") == KEPT


def test_what_is_sound_is_read_where_no_lock_can_be_taken(tmp_path: Path, host: Host) -> None:
    kept = fetch(host, tmp_path / "c")
    table = open_data_file(kept[0], cache_dir=tmp_path / "c")
    for lock in (tmp_path / "c").glob("*.lock"):
        lock.unlink()
        lock.mkdir()
    assert fetch(host, tmp_path / "c") == kept
    assert open_data_file(kept[0], cache_dir=tmp_path / "c").digest == table.digest


def test_a_host_that_ignores_ranges_starts_anew(tmp_path: Path, host: Host) -> None:
    host.cut_after, host.ranges = [1000], False
    assert fetch(host, tmp_path / "c")[0].read_bytes() == host.body


@pytest.mark.parametrize("etag", ['"two"', '"one"'], ids=["etag changed", "only the length changed"])
def test_a_file_that_changed_between_two_tries_starts_anew(tmp_path: Path, host: Host, etag: str) -> None:
    host.cut_after = [1000]
    with pytest.raises(DataError, match="cut 1 times"):
        fetch(host, tmp_path / "c", attempts=1)
    host.body, host.etag = write(tmp_path / "new.json.zip", make_records(41)).read_bytes(), etag
    assert fetch(host, tmp_path / "c")[0].read_bytes() == host.body


def test_an_unfinished_file_of_unknown_origin_is_not_gone_on_with(tmp_path: Path, host: Host) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "drill.json.zip.part").write_bytes(b"x" * 1000)
    assert fetch(host, tmp_path / "c")[0].read_bytes() == host.body
    assert host.requests == [""]


def _state_more(host: Host) -> None:
    host.stated = len(host.body) + 100


def _state_less(host: Host) -> None:
    host.stated = len(host.body) - 100


def _web_page(host: Host) -> None:
    host.body, host.content_type = b"<html>please log in</html>", "text/html; charset=utf-8"


def _web_page_as_zip(host: Host) -> None:
    host.body = b"<html>please log in</html>"


def _json_error(host: Host) -> None:
    host.body = b'[{"message": "no such file"}]'


def _tampered(host: Host) -> None:
    host.listed_md5 = md5(host.body)
    at = len(host.body) // 2
    host.body = host.body[:at] + bytes([host.body[at] ^ 1]) + host.body[at + 1 :]


def _exchanged(host: Host) -> None:
    host.listed_md5 = md5(b"another file")


def _not_found(host: Host) -> None:
    host.status = 404


def _busy(host: Host) -> None:
    host.status = 503


def _challenge(host: Host) -> None:
    host.status = 202


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_state_more, "cut 2 times"),
        (_state_less, "not the file"),
        (_web_page, "web page"),
        (_web_page_as_zip, "not the file.*web page"),
        (_json_error, "no zip archive"),
        (_tampered, "not the published one"),
        (_exchanged, "not the published one"),
        (_not_found, "404.*--data-file"),
        (_busy, "503.*--data-file"),
        (_challenge, "202.*--data-file"),
    ],
)
def test_what_is_not_the_file_never_enters_the_cache(
    tmp_path: Path, host: Host, spoil: Callable[[Host], None], message: str
) -> None:
    sound = host.body
    spoil(host)
    with pytest.raises(DataError, match=message):
        fetch(host, tmp_path / "c", attempts=2)
    assert not (tmp_path / "c" / "drill.json.zip").exists()
    host.body, host.status, host.stated, host.listed_md5 = sound, 200, None, md5(sound)
    host.content_type = "application/zip"
    assert fetch(host, tmp_path / "c")[0].read_bytes() == sound  # recovers on the next call


def test_a_pinned_md5_is_enforced_whatever_the_host_lists(tmp_path: Path, host: Host) -> None:
    host.listed_md5 = md5(host.body)
    with pytest.raises(DataError, match="not the published one"):
        fetch(host, tmp_path / "c", md5="0" * 32)


def test_a_cached_file_that_changed_is_refused_once_and_then_replaced(tmp_path: Path, host: Host) -> None:
    assert fetch(host, tmp_path / "c")[1].checked_by == "first_use"
    cached = tmp_path / "c" / "drill.json.zip"
    cached.write_bytes(host.body[:-1] + b"!")
    with pytest.raises(DataError, match=r"differs from the file recorded.*start again"):
        fetch(host, tmp_path / "c")
    assert fetch(host, tmp_path / "c")[0].read_bytes() == host.body


@pytest.mark.parametrize("receipt", [None, "{half a rec"], ids=["missing", "damaged"])
def test_a_file_without_receipt_is_checked_before_it_is_used(tmp_path: Path, host: Host, receipt: str | None) -> None:
    (tmp_path / "c").mkdir()
    cached = tmp_path / "c" / "drill.json.zip"
    if receipt is not None:
        (tmp_path / "c" / "drill.json.zip.json").write_text(receipt)
    cached.write_bytes(host.body)
    assert fetch(host, tmp_path / "c")[0] == cached
    assert host.requests == []
    (tmp_path / "c" / "drill.json.zip.json").unlink()
    cached.write_bytes(host.body[:2000])
    with pytest.raises(DataError, match="not the file"):
        fetch(host, tmp_path / "c")


def test_plain_http_is_refused(tmp_path: Path) -> None:
    release = Release("drill", "http://example.org/file", 7, "drill.json.zip")
    with pytest.raises(DataError, match="only https"):
        obtain(release, cache_dir=tmp_path, transport=transport())


def _serve(monkeypatch: pytest.MonkeyPatch, release: Release) -> None:
    monkeypatch.setitem(RELEASES, release.name, release)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    monkeypatch.setattr(urllib.request, "build_opener", lambda *handlers: direct)


def test_open_release(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.listed_md5 = md5(host.body)
    _serve(monkeypatch, host.release())
    table = open_release("drill", cache_dir=tmp_path / "c")
    assert (table.name, len(table)) == ("drill", 240)
    assert table.provenance["release"] == "drill"
    assert table.provenance["md5"] == md5(host.body)
    assert table.provenance["url"] == f"{host.url}/file"
    assert table.provenance["file"] == "drill.json.zip"
    assert len(list(table.crystals())) == 240


def test_without_network_the_message_names_the_ways_out(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    _serve(monkeypatch, Release("drill", "http://127.0.0.1:9/file", 7, "drill.json.zip"))  # nothing listens there
    with pytest.raises(DataError, match=r"no network: 127\.0\.0\.1 .*--data-file PATH, or use --source demo"):
        open_release("drill", cache_dir=tmp_path / "c")


def test_release_names() -> None:
    assert get_release("dft_3d").file_name == "jdft_3d-12-12-2022.json.zip"
    assert all(re.fullmatch(r"https://ndownloader\.figshare\.com/files/\d+", one.url) for one in RELEASES.values())
    with pytest.raises(UsageError, match="did you mean 'dft_3d_2021'"):
        get_release("dft_3d_2021_august")


# --- the real data -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jarvis_file() -> Path:
    path = os.environ.get("CRYSTRATA_JARVIS")
    if not path:
        pytest.skip("CRYSTRATA_JARVIS names no compact JARVIS file")
    return Path(path)


def test_the_complete_2021_release(jarvis_file: Path, tmp_path: Path) -> None:
    table = open_data_file(jarvis_file, cache_dir=tmp_path)
    counts = {
        "formation_energy_peratom": 55_712, "ehull": 55_359, "optb88vdw_bandgap": 55_711, "mbj_bandgap": 18_167,
        "bulk_modulus_kv": 19_680, "shear_modulus_gv": 19_680, "epsx": 44_490, "epsy": 44_490, "epsz": 44_490,
        "dfpt_piezo_max_dij": 3_345, "spillage": 11_375,
    }  # fmt: skip
    assert len(table) == 55_712
    assert table.labels[list(counts)].notna().sum().to_dict() == counts
    assert table.labels["formula"].nunique() == 39_862
    assert table.labels["orientation"].value_counts().to_dict() == {
        "original": 17_314, "restored": 16_620, "irrelevant": 12_564, "unknown": 5_271, "likely": 3_943
    }  # fmt: skip
    assert table.provenance["rejected"] == 0
    assert list(tmp_path.iterdir()) == []
    formulas = iter(table.labels["formula"])
    given = table.labels["orientation"].isin(["original", "restored", "irrelevant"])
    for id, is_given, crystal in zip(table.labels.index, given, table.crystals(), strict=True):
        assert (crystal.id, crystal.formula, crystal.orientation_given) == (id, next(formulas), is_given)


def test_real_rows_as_records(jarvis_file: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(jarvis_file).head(50).copy()
    frame.to_parquet(tmp_path / "fifty.parquet")
    compact = open_file(tmp_path / "fifty.parquet")
    names = [name for name in compact.labels if compact.labels[name].dtype == np.float64]
    records = [
        {
            "jid": row.jid,
            "spg_number": str(row.spg),
            "atoms": {
                "lattice_mat": np.reshape(row.lattice, (3, 3)).tolist(),
                "coords": np.reshape(row.frac_coords, (-1, 3)).astype(float).tolist(),
                "elements": [SYMBOLS[z - 1] for z in row.atomic_numbers],
                "cartesian": False,
            },
            **{name: "na" if pd.isna(row[name]) else float(row[name]) for name in names},
        }
        for _, row in frame.iterrows()
    ]
    for name in FORMS[:3]:
        table = open_file(write(tmp_path / name, records))
        pd.testing.assert_frame_equal(
            table.labels.drop(columns="orientation"), compact.labels.drop(columns="orientation"), check_like=True
        )
        for one, other in zip(table.crystals(), compact.crystals(), strict=True):
            np.testing.assert_array_equal(one.lattice, other.lattice)
            np.testing.assert_array_equal(one.frac, other.frac)
            np.testing.assert_array_equal(one.numbers, other.numbers)
