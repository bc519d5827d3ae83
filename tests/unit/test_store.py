"""The graph store: built once, whole or not at all, independent of labels; damage is found; the portable form."""

from __future__ import annotations

import json
import lzma
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_crystals import CRYSTALS, LONE_ATOM, SETTINGS, table_of

from crystrata.errors import CrystrataError, DataError, StorageError, UsageError
from crystrata.files import lock
from crystrata.graph_settings import GraphSettings
from crystrata.graphs import store as store_module
from crystrata.graphs import store_files
from crystrata.graphs.arrays import ARRAY_FORMS, STORED_ARRAYS
from crystrata.graphs.batch import collate
from crystrata.graphs.neighbours import build_graphs
from crystrata.graphs.portable import export_portable, import_portable
from crystrata.graphs.store import GraphStore, open_store, store_path
from crystrata.graphs.store_files import HEADER, sealed
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal

TABLE = table_of((*CRYSTALS, LONE_ATOM))
OVERLAP = Crystal.create("overlap", 6 * np.eye(3), [14, 14], np.zeros((2, 3)))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def content_of(folder: Path) -> tuple[dict[str, bytes], dict]:
    """Arrays as bytes and the header as a value (the order of its keys carries nothing)."""
    files = bytes_of(folder)
    return files, json.loads(files.pop(HEADER))


def folders(stores: Path) -> list[str]:
    return sorted(path.name for path in stores.iterdir() if path.is_dir())


def unopened() -> Iterator[Crystal]:
    raise AssertionError("the crystals were read again")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> GraphStore:
    """A store that tests read and never change."""
    return open_store(TABLE, SETTINGS, tmp_path_factory.mktemp("stores"))


@pytest.fixture
def store(built: GraphStore, tmp_path: Path) -> GraphStore:
    """A copy of the store that a test may damage."""
    return GraphStore(shutil.copytree(built.path, tmp_path / built.path.name))


def test_what_is_opened_is_what_was_built(built: GraphStore) -> None:
    graphs, _ = build_graphs(enumerate(TABLE.crystals()), SETTINGS)
    for name, form in ARRAY_FORMS.items():
        opened = getattr(built.arrays, name)
        assert opened.dtype == np.dtype(form.dtype)
        assert np.array_equal(opened, getattr(graphs, name)), name
    assert len(built.arrays) == len(TABLE) == built.header["crystals"]
    assert built.settings == SETTINGS
    built.verify()


def test_it_is_built_once(tmp_path: Path) -> None:
    first = open_store(TABLE, SETTINGS, tmp_path)
    times = {file.name: file.stat().st_mtime_ns for file in first.path.iterdir()}
    again = open_store(replace(TABLE, crystals=unopened), SETTINGS, tmp_path)
    assert again.path == first.path
    assert {file.name: file.stat().st_mtime_ns for file in again.path.iterdir()} == times
    assert folders(tmp_path) == [first.path.name]


def test_labels_do_not_belong_to_it(built: GraphStore) -> None:
    others = replace(TABLE, name="other", labels=TABLE.labels.assign(gap=1.0), crystals=unopened)
    assert open_store(others, SETTINGS, built.path.parent).path == built.path


def test_other_settings_or_crystals_have_a_store_of_their_own(tmp_path: Path) -> None:
    small = table_of(CRYSTALS[:2])
    paths = {open_store(small, SETTINGS, tmp_path).path}
    for change in ({"k": 11}, {"delta": 0.2}, {"cutoff": 7.0}, {"angle_cutoff": 3.0}):
        paths.add(open_store(small, GraphSettings(**change), tmp_path).path)
    paths.add(open_store(replace(small, digest="e" * 64), SETTINGS, tmp_path).path)
    assert len(paths) == 6
    assert folders(tmp_path) == sorted(path.name for path in paths)


def test_another_schema_has_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = store_path(tmp_path, "d", SETTINGS)
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", store_module.SCHEMA_VERSION + 1)
    assert store_path(tmp_path, "d", SETTINGS) != before


def test_workers_and_chunks_write_the_same_bytes(
    built: GraphStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_CHUNK", 2)
    seen: list[tuple[int, int]] = []
    for workers in (0, 2):
        progress = lambda done, total: seen.append((done, total))  # noqa: E731
        store = open_store(TABLE, SETTINGS, tmp_path / str(workers), workers=workers, progress=progress)
        assert bytes_of(store.path) == bytes_of(built.path)
    assert seen == 2 * [(done, 9) for done in (2, 4, 6, 8, 9)]


def test_rejected_crystals_are_listed_and_rows_stay_aligned(tmp_path: Path) -> None:
    mixed = (CRYSTALS[0], OVERLAP, *CRYSTALS[1:3], replace(OVERLAP, id="second"))
    store = open_store(table_of(mixed), SETTINGS, tmp_path)
    assert store.arrays.source_row.tolist() == [0, 2, 3]
    assert [(one.id, one.code) for one in store.rejected] == [("overlap", "overlapping"), ("second", "overlapping")]
    assert all("0.000 A apart" in one.reason for one in store.rejected)
    for row, graph in zip(store.arrays.source_row, range(3), strict=True):
        assert collate(store.arrays, np.array([graph])).numbers.tolist() == mixed[row].numbers.tolist()


def test_a_table_without_one_usable_crystal_gives_an_empty_store(tmp_path: Path) -> None:
    store = open_store(table_of([OVERLAP]), SETTINGS, tmp_path)
    assert len(store.arrays) == 0
    assert len(store.rejected) == 1


def test_batches_cut_any_crystals_in_any_order(built: GraphStore) -> None:
    order = np.array([4, 0, 8, 4])
    batch = collate(built.arrays, order, angles=True)
    assert len(batch) == 4
    starts = np.cumsum([0, *batch.atom_counts.tolist()])
    for position, graph in enumerate(order):
        one = collate(built.arrays, np.array([graph]), angles=True)
        atoms = (batch.crystal == position).numpy()
        edges = atoms[batch.centre.numpy()]
        pairs = edges[batch.pair[0].numpy()]
        assert np.array_equal(batch.numbers[atoms], one.numbers)
        assert np.array_equal(batch.centre[edges] - starts[position], one.centre)
        assert np.array_equal(batch.neighbour[edges] - starts[position], one.neighbour)
        assert np.array_equal(batch.vector[edges], one.vector)
        assert np.array_equal(batch.radius[atoms], one.radius)
        assert np.array_equal(batch.cosine[pairs], one.cosine)
        first_edge = int(np.flatnonzero(edges)[0]) if edges.any() else 0
        assert np.array_equal(batch.pair[:, pairs] - first_edge, one.pair)
    assert collate(built.arrays, order).pair.shape == (2, 0)
    for none in (-1, 9):
        with pytest.raises(IndexError, match="no crystal"):
            collate(built.arrays, np.array([0, none]))


@pytest.mark.parametrize("name", ARRAY_FORMS)
def test_a_cut_or_missing_array_is_found_on_opening(store: GraphStore, name: str) -> None:
    file = store.path / f"{name}.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"damaged: {name}.bin is missing or cut. It must be built again"):
        GraphStore(store.path)
    file.unlink()
    with pytest.raises(DataError, match=rf"{name}.bin is missing"):
        GraphStore(store.path)


@pytest.mark.parametrize("name", ARRAY_FORMS)
def test_a_flipped_bit_is_found_by_verify(store: GraphStore, name: str) -> None:
    file = store.path / f"{name}.bin"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.bin has changed"):
        GraphStore(store.path).verify()


def test_a_changed_header_is_found(store: GraphStore) -> None:
    header = json.loads((store.path / HEADER).read_text())
    for change in ({"crystals": 7}, {"source": {**header["source"], "name": "other"}}, {"more": 1}, {"sha256": "0"}):
        (store.path / HEADER).write_text(json.dumps({**header, **change}))
        with pytest.raises(DataError, match="damaged: its header has changed"):
            GraphStore(store.path)
    (store.path / HEADER).write_text(json.dumps(header, indent=7))
    assert GraphStore(store.path).header == header


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_damaged_store_is_built_again_with_a_warning(store: GraphStore, built: GraphStore) -> None:
    for name in ("frac.bin", "cosine.bin"):
        flip(store.path / name)
        with pytest.warns(UserWarning, match=rf"damaged: {name} has changed.* This is done now"):
            again = open_store(TABLE, SETTINGS, store.path.parent)
        assert bytes_of(again.path) == bytes_of(built.path)
        assert folders(store.path.parent) == [built.path.name]


def test_a_store_in_the_place_of_another_is_not_opened(built: GraphStore, tmp_path: Path) -> None:
    place = store_path(tmp_path, TABLE.digest, GraphSettings(k=8))
    shutil.copytree(built.path, place)
    with pytest.warns(UserWarning, match=f"it holds the content of {built.path.name}"):
        assert open_store(TABLE, GraphSettings(k=8), tmp_path).settings.k == 8


class Clock:
    """Counts how often the arrays are read; its time stands still, some seconds after the store was written."""

    def __init__(self, store: GraphStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.checks, self.later = 0, 10.0  # s: files written just now count as unsettled
        written, verify = max(file.stat().st_ctime for file in store.path.iterdir()), GraphStore.verify
        monkeypatch.setattr(GraphStore, "verify", lambda store: (self._count(), verify(store)))
        monkeypatch.setattr(store_files.time, "time", lambda: written + self.later)

    def _count(self) -> None:
        self.checks += 1


def test_arrays_are_read_when_that_could_find_something(
    store: GraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    clock, stores = Clock(store, monkeypatch), store.path.parent
    for later, checks in ((10, 1), (10, 1), (86_000, 1), (86_500, 2), (86_500, 2), (0, 3)):
        clock.later = later
        open_store(TABLE, SETTINGS, stores)
        assert clock.checks == checks, later
    note = stores / f".{store.path.name}.checked"
    for damage in ("", "{}", "[]", "null"):
        note.write_text(damage)
        open_store(TABLE, SETTINGS, stores)
    assert clock.checks == 7
    clock.later = 10
    open_store(TABLE, SETTINGS, stores)
    assert clock.checks == 8
    file = store.path / "vector.bin"
    state = file.stat()
    flip(file)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))  # the time of change of the entry still tells
    with pytest.warns(UserWarning, match="vector.bin has changed"):
        open_store(TABLE, SETTINGS, stores)


def test_files_written_just_now_are_read_again_next_time(store: GraphStore, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(store, monkeypatch)
    clock.later = 0.0
    os.utime(store.path / "frac.bin")
    for checks in (1, 2):
        open_store(TABLE, SETTINGS, store.path.parent)
        assert clock.checks == checks


def test_a_failed_verification_is_not_forgotten(store: GraphStore, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(store, monkeypatch)
    opened, note = open_store(TABLE, SETTINGS, store.path.parent), store.path.parent / f".{store.path.name}.checked"
    assert note.exists()
    flip(store.path / "frac.bin")
    with pytest.raises(DataError, match=r"frac\.bin has changed"):
        opened.verify()
    assert not note.exists()


def test_a_sound_store_is_opened_where_nothing_can_be_written(
    store: GraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(store, monkeypatch)
    for name in ("lock", "checked"):
        (store.path.parent / f".{store.path.name}.{name}").mkdir()
    assert len(open_store(TABLE, SETTINGS, store.path.parent).arrays) == 9
    flip(store.path / "frac.bin")
    with pytest.raises(StorageError, match=r"cannot write .*\.lock"):
        open_store(TABLE, SETTINGS, store.path.parent)


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("{", "damaged"),
        ("[]", "store"),
        ("{}", "no header of a store"),
        ('{"arrays": {}}', "schema None"),
        ('{"schema": 0, "arrays": {}}', "schema 0"),
    ],
)
def test_a_damaged_header_is_named(store: GraphStore, header: str, complaint: str) -> None:
    (store.path / HEADER).write_text(header)
    with pytest.raises(DataError, match=complaint):
        GraphStore(store.path)


def test_a_folder_without_header_is_no_store_and_is_built_over(store: GraphStore, built: GraphStore) -> None:
    (store.path / HEADER).unlink()
    (store.path / "vector.bin").write_bytes(b"half")
    with pytest.raises(DataError, match="no graph store"):
        GraphStore(store.path)
    with pytest.warns(
        UserWarning, match=r"no graph store: store\.json is missing\. It must be built again\. This is done now"
    ):
        rebuilt = open_store(TABLE, SETTINGS, store.path.parent)
    assert bytes_of(rebuilt.path) == bytes_of(built.path)


def test_what_a_killed_build_left_is_swept_away(built: GraphStore, tmp_path: Path) -> None:
    left = tmp_path / f".{built.path.name}.building"
    left.mkdir()
    (left / HEADER).write_text("{}")
    store = open_store(TABLE, SETTINGS, tmp_path)
    assert bytes_of(store.path) == bytes_of(built.path)
    assert folders(tmp_path) == [store.path.name]


def test_what_killed_builds_of_other_stores_left_goes_too(store: GraphStore) -> None:
    stores = store.path.parent
    for left in (".dead.building", ".dead.old", ".living.building"):
        (stores / left).mkdir()
        (stores / left / "frac.bin").write_bytes(b"half")
    with lock(stores / ".living.lock"):
        open_store(TABLE, SETTINGS, stores)
        assert folders(stores) == [".living.building", store.path.name]
    open_store(TABLE, SETTINGS, stores)
    assert folders(stores) == [store.path.name]


@pytest.mark.parametrize("name", ["delta", "cutoff", "angle_cutoff"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_settings_are_finite(name: str, value: float) -> None:
    with pytest.raises(UsageError, match="all finite"):
        GraphSettings(**{name: value})


def test_a_failing_build_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[Crystal]:
        yield CRYSTALS[0]
        raise DataError("the file changed")

    with pytest.raises(DataError, match="the file changed"):
        open_store(replace(TABLE, crystals=failing), SETTINGS, tmp_path)
    assert folders(tmp_path) == []
    assert len(open_store(TABLE, SETTINGS, tmp_path).arrays) == 9


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        open_store(TABLE, SETTINGS, tmp_path / "file" / "stores")


def test_the_portable_form_becomes_the_same_store(built: GraphStore, tmp_path: Path) -> None:
    export_portable(built, tmp_path / "graphs.store")
    store = import_portable(tmp_path / "graphs.store", tmp_path / "stores")
    assert content_of(store.path) == content_of(built.path)
    derived = sum((built.path / f"{name}.bin").stat().st_size for name in set(ARRAY_FORMS) - set(STORED_ARRAYS))
    assert (tmp_path / "graphs.store").stat().st_size < derived
    opened = open_store(replace(TABLE, crystals=unopened), SETTINGS, tmp_path / "stores")
    assert opened.path == store.path
    times = (store.path / HEADER).stat().st_mtime_ns
    import_portable(tmp_path / "graphs.store", tmp_path / "stores")
    assert (store.path / HEADER).stat().st_mtime_ns == times


def test_the_portable_form_is_taken_apart_in_parts(
    built: GraphStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crystrata.graphs.portable._PART", 2)
    export_portable(built, tmp_path / "graphs.store")
    assert content_of(import_portable(tmp_path / "graphs.store", tmp_path).path) == content_of(built.path)


def test_rejected_crystals_travel_along(tmp_path: Path) -> None:
    store = open_store(table_of((CRYSTALS[0], OVERLAP)), SETTINGS, tmp_path / "a")
    export_portable(store, tmp_path / "graphs.store")
    assert import_portable(tmp_path / "graphs.store", tmp_path / "b").rejected == store.rejected


def damaged_copies(whole: bytes) -> Iterator[tuple[str, bytes]]:
    for part in (0.0, 0.02, 0.3, 0.7, 0.99):
        yield f"cut at {part}", whole[: int(part * len(whole))]
    for at in [5, *np.linspace(19, len(whole) - 40, 24).astype(int)]:
        yield f"byte {at} flipped", whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
    yield "another file", b"PK\x03\x04" + whole


def test_a_damaged_portable_file_is_refused_and_leaves_no_store(built: GraphStore, tmp_path: Path) -> None:
    file = tmp_path / "graphs.store"
    export_portable(built, file)
    accepted = []
    for number, (what, content) in enumerate(damaged_copies(file.read_bytes())):
        file.write_bytes(content)
        stores = tmp_path / str(number)
        try:
            store = import_portable(file, stores)
        except DataError:
            assert not stores.exists() or folders(stores) == [], f"{what}: a damaged store was left"
        else:
            accepted.append(what)
            assert content_of(store.path) == content_of(built.path), what
    assert len(accepted) <= 2, accepted  # the last bytes of the archive repeat its size: their loss harms nothing


def rewritten(file: Path, **changes: object) -> None:
    """Write a portable file again with a changed header: sound compression, wrong content."""
    raw = file.read_bytes()
    at = raw.index(b"\n") + 1
    packed = lzma.decompress(raw[at:])
    size = int.from_bytes(packed[:8], "little")
    old = json.loads(packed[8 : 8 + size])
    del old["sha256"]
    header = json.dumps(sealed({**old, **changes})).encode()
    file.write_bytes(raw[:at] + lzma.compress(len(header).to_bytes(8, "little") + header + packed[8 + size :]))


def test_a_portable_file_whose_content_is_not_its_own_is_refused(built: GraphStore, tmp_path: Path) -> None:
    file = tmp_path / "graphs.store"
    export_portable(built, file)
    wrong = json.loads(json.dumps(built.header["arrays"]))
    wrong["frac"]["sha256"] = "0" * 64
    rewritten(file, arrays=wrong)
    with pytest.raises(DataError, match="frac"):
        import_portable(file, tmp_path / "stores")
    assert folders(tmp_path / "stores") == []


@pytest.mark.parametrize(
    "changes",
    [{"settings": {"k": 12, "colour": 1}}, {"settings": {"k": 0}}, {"source": {}}, {"arrays": {}}, {"schema": 99}],
    ids=["unknown setting", "bad setting", "no digest", "no arrays", "another schema"],
)
def test_a_portable_file_with_a_strange_header_is_refused(
    built: GraphStore, tmp_path: Path, changes: dict[str, object]
) -> None:
    file = tmp_path / "graphs.store"
    export_portable(built, file)
    rewritten(file, **changes)
    with pytest.raises(CrystrataError):
        import_portable(file, tmp_path / "stores")
    assert not (tmp_path / "stores").exists() or folders(tmp_path / "stores") == []


def test_a_missing_portable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read portable store .*nowhere"):
        import_portable(tmp_path / "nowhere", tmp_path)


def test_labels_of_a_table_follow_the_graphs() -> None:
    table: CrystalTable = table_of(CRYSTALS, gap=np.arange(8.0))
    assert isinstance(table.labels, pd.DataFrame)
    assert table.labels.index.tolist() == [crystal.id for crystal in table.crystals()]
