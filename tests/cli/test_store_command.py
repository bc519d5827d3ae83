"""`crystrata store`: build once, open ever after, carry between machines, and refuse what is damaged."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crystrata.cli.store import main

Call = Callable[..., tuple[int, str, str]]
RECORDS = 12


def record(row: int) -> dict[str, Any]:
    """A made-up rock salt as a JARVIS record."""
    a = 4.0 + 0.1 * row
    return {
        "jid": f"JVASP-{row}",
        "atoms": {"lattice_mat": (a / 2 * (np.ones((3, 3)) - np.eye(3))).tolist(), "elements": ["Na", "Cl"],
                  "coords": [[0, 0, 0], [0.5, 0.5, 0.5]], "cartesian": False},
        "formation_energy_peratom": -1.0 - 0.01 * row,
        "optb88vdw_bandgap": "na",
    }  # fmt: skip


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    """A small record file."""
    path = tmp_path / "small.json"
    path.write_text(json.dumps([record(row) for row in range(RECORDS)]))
    return path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls `crystrata store`; returns exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("CRYSTRATA_JARVIS", raising=False)  # only what the flags name

    def called(*flags: object) -> tuple[int, str, str]:
        try:
            code = main(list(map(str, flags)))
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return called


def store_of(data: Path) -> Path:
    (store,) = [path for path in (data / "stores").iterdir() if path.is_dir() and not path.name.startswith(".")]
    return store


def contents(folder: Path) -> dict[str, Any]:
    """Every array as bytes, the header as values."""
    arrays = {path.name: path.read_bytes() for path in folder.glob("*.bin")}
    return {**arrays, "header": json.loads((folder / "store.json").read_text())}


def refused(answer: tuple[int, str, str]) -> str:
    """The one line of an answer with exit code 2."""
    code, _, err = answer
    assert code == 2
    assert err.count("\n") == 1
    return err


def test_the_second_call_opens_what_the_first_one_built(call: Call, data_file: Path, tmp_path: Path) -> None:
    flags = ("--data-file", data_file, "--data-dir", tmp_path / "data")
    code, out, err = call(*flags)
    assert (code, err) == (0, "")
    assert f"{RECORDS} crystals, {2 * RECORDS} atoms" in out
    assert "0 rejected" in out
    store = store_of(tmp_path / "data")
    assert str(store) in out
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in store.iterdir()}
    assert call(*flags)[0] == 0
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in store.iterdir()} == before


def test_what_is_ready_is_opened_where_nothing_can_be_locked(call: Call, data_file: Path, tmp_path: Path) -> None:
    flags = ("--data-file", data_file, "--data-dir", tmp_path / "data")
    assert call(*flags)[0] == 0
    locks = list((tmp_path / "data").rglob("*.lock"))
    assert len(locks) == 2  # of the converted file and of the store
    for lock in locks:
        lock.unlink()
        lock.mkdir()  # as little to be locked as a file in a read-only folder
    assert call(*flags)[0] == 0


def test_worker_processes_build_the_same_store(call: Call, data_file: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        data = tmp_path / str(workers)
        assert call("--data-file", data_file, "--data-dir", data, "--workers", workers)[0] == 0
    assert contents(store_of(tmp_path / "0")) == contents(store_of(tmp_path / "2"))


def test_rejected_crystals_are_named(call: Call, tmp_path: Path) -> None:
    records = [record(row) for row in range(3)]
    records[1]["atoms"]["elements"] = ["Na", "Vac"]
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(records))
    code, out, _ = call("--data-file", path, "--data-dir", tmp_path / "data")
    assert code == 0
    assert "2 crystals, 4 atoms" in out


def test_a_store_travels_as_one_file(call: Call, data_file: Path, tmp_path: Path) -> None:
    portable = tmp_path / "portable"
    code, out, _ = call("--data-file", data_file, "--data-dir", tmp_path / "here", "--export", portable)
    assert code == 0
    assert f"portable form: {portable}" in out
    code, out, _ = call("--import", portable, "--data-dir", tmp_path / "there", "--verify")
    assert code == 0
    assert "every array matches its SHA-256" in out
    assert contents(store_of(tmp_path / "here")) == contents(store_of(tmp_path / "there"))


def test_the_imported_store_is_the_one_that_a_run_opens(call: Call, data_file: Path, tmp_path: Path) -> None:
    portable = tmp_path / "portable"
    assert call("--data-file", data_file, "--data-dir", tmp_path / "here", "--export", portable)[0] == 0
    assert call("--import", portable, "--data-dir", tmp_path / "there")[0] == 0
    inode = (store_of(tmp_path / "there") / "store.json").stat().st_ino
    assert call("--data-file", data_file, "--data-dir", tmp_path / "there")[0] == 0
    assert (store_of(tmp_path / "there") / "store.json").stat().st_ino == inode


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "missing"])
def test_a_damaged_portable_form_is_refused(damage: str, call: Call, data_file: Path, tmp_path: Path) -> None:
    portable = tmp_path / "portable"
    assert call("--data-file", data_file, "--data-dir", tmp_path / "here", "--export", portable)[0] == 0
    whole = bytearray(portable.read_bytes())
    if damage == "missing":
        portable.unlink()
    elif damage == "text":
        portable.write_text("something else")
    elif damage == "cut":
        portable.write_bytes(whole[: len(whole) // 2])
    else:
        whole[len(whole) // 2] ^= 0x10
        portable.write_bytes(whole)
    said = refused(call("--import", portable, "--data-dir", tmp_path / "there"))
    assert str(portable) in said
    left = list((tmp_path / "there").rglob("*.bin")) if (tmp_path / "there").exists() else []
    assert left == []


@pytest.mark.parametrize(("damage", "said"), [("flipped", "has changed"), ("cut", "is missing or cut")])
def test_a_damaged_store_is_built_again(damage: str, said: str, call: Call, data_file: Path, tmp_path: Path) -> None:
    flags = ("--data-file", data_file, "--data-dir", tmp_path / "data", "--verify")
    assert call(*flags)[0] == 0
    whole = contents(store_of(tmp_path / "data"))
    file = max(store_of(tmp_path / "data").glob("*.bin"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data if damage == "flipped" else data[:-1])
    with pytest.warns(UserWarning, match=rf"{file.name} {said}.* This is done now"):
        code, out, _ = call(*flags)
    assert code == 0
    assert "every array matches its SHA-256" in out
    assert contents(store_of(tmp_path / "data")) == whole


@pytest.mark.parametrize("form", ["json", "json.gz"])
def test_a_data_file_cut_in_half_is_refused(form: str, call: Call, data_file: Path, tmp_path: Path) -> None:
    whole = data_file.read_bytes() if form == "json" else gzip.compress(data_file.read_bytes())
    half = tmp_path / f"half.{form}"
    half.write_bytes(whole[: len(whole) // 2])
    said = refused(call("--data-file", half, "--data-dir", tmp_path / "data"))
    assert str(half) in said
    assert "cut" in said
    assert "Download or copy the file again" in said
    assert not list((tmp_path / "data").rglob("store.json"))


def test_the_same_message_stops_a_training_run(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from crystrata.cli.train import main as train

    data_file.write_bytes(data_file.read_bytes()[:-100])
    where = ["--data-file", data_file, "--data-dir", tmp_path / "data", "--models-dir", tmp_path / "models"]
    assert train(["--level", "lite", *map(str, where)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(data_file) in said
    assert not (tmp_path / "models").exists()  # a refused call leaves nothing behind


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--source", "dmeo"], "unknown source 'dmeo'; did you mean 'demo'?"),
        (["--source", "demo", "--data-file", "x.json"], "--source demo and --data-file contradict each other"),
        (["--data-file", "gone.json"], "gone.json"),
        (["--worker", "2"], "unknown argument --worker; did you mean '--workers'?"),
        (["--workers", "-1", "--source", "demo"], "--workers must be 0 or more"),
        (["--import", "gone", "--export", "x"], "--import and --export contradict each other"),
        (["--release", "dft_3d_2O22", "--source", "jarvis"], "did you mean 'dft_3d_2022'?"),
    ],
    ids=str,
)
def test_a_wrong_call_is_refused(flags: list[str], said: str, call: Call, tmp_path: Path) -> None:
    assert said in refused(call(*flags, "--data-dir", tmp_path / "data"))


def test_a_place_that_cannot_be_written_is_named(call: Call, data_file: Path, tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    code, _, err = call("--data-file", data_file, "--data-dir", tmp_path / "data")
    assert code == 1
    assert err.startswith("error: cannot write ")
    assert err.count("\n") == 1
