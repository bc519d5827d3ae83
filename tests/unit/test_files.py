"""Files appear whole or not at all, locks exclude, digests are those of the standard, errors name the path."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import stat
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from crystrata.errors import (
    CrystrataError,
    DataError,
    InputError,
    ModelError,
    StorageError,
    TrainingError,
    UsageError,
    nearest,
    unknown_name,
)
from crystrata.files import (
    digest_of_json,
    lock,
    md5_of,
    replace,
    sha256_of,
    storage_errors,
    write_atomically,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_digests_are_those_of_the_standard(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()
    assert md5_of(tmp_path / "file") == hashlib.md5(content[:size]).hexdigest()


def test_the_digest_of_a_value_ignores_the_order_of_keys() -> None:
    assert digest_of_json({"b": [1, 2.5], "a": None}) == digest_of_json({"a": None, "b": [1, 2.5]})
    assert digest_of_json({"a": [1, 2]}) != digest_of_json({"a": [2, 1]})
    assert digest_of_json({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


def test_parents_are_made_and_the_file_can_be_read_by_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "notes.txt"
    write_text(path, "Å, θ")
    assert path.read_bytes() == "Å, θ".encode()
    assert stat.S_IMODE(path.stat().st_mode) == (0o644 if os.name != "nt" else 0o666)
    assert names(path.parent) == ["notes.txt"]


def test_a_failing_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def failing(file: BinaryIO) -> None:
        file.write(b"half of the new")
        raise ValueError("interrupted")

    with pytest.raises(ValueError, match="interrupted"):
        write_atomically(path, failing)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_full_disk_is_one_line_with_path_and_mend(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def full(file: BinaryIO) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"cannot write .*file: No space left on device\. Free some space"):
        write_atomically(path, full)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_until_the_end_a_reader_sees_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def watched(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"

    write_atomically(path, watched)
    assert path.read_text() == "new"


def test_windows_waits_for_the_reader_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, refusals = os.replace, iter([True, True, False])

    def held(source: Path, target: Path) -> None:
        if next(refusals):
            raise PermissionError(13, "The process cannot access the file")
        rename(source, target)

    monkeypatch.setattr(os, "replace", held)
    (tmp_path / "new").write_text("new")
    replace(tmp_path / "new", tmp_path / "file", windows=True)
    assert (tmp_path / "file").read_text() == "new"
    refusals = iter([True])
    with pytest.raises(PermissionError):
        replace(tmp_path / "file", tmp_path / "other", windows=False)


def test_a_place_that_is_no_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_text(tmp_path / "file" / "below", "text")
    with pytest.raises(StorageError, match="cannot write"), lock(tmp_path / "file" / "lock"):
        pytest.fail("a lock was taken in a file")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot write"):
        write_text(tmp_path / "folder", "text")


def test_storage_errors_let_other_errors_pass() -> None:
    with pytest.raises(KeyError), storage_errors(Path("x")):
        raise KeyError("a")


def test_json_has_no_nan(tmp_path: Path) -> None:
    value = {"a": float("nan"), "b": [1.5, float("inf"), (float("-inf"), "NaN")], "c": {"d": float("nan"), "e": True}}
    write_json(tmp_path / "value.json", value)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (tmp_path / "value.json").read_text()
    found = json.loads(text, parse_constant=refuse)
    assert found == {"a": None, "b": [1.5, None, [None, "NaN"]], "c": {"d": None, "e": True}}
    assert text.endswith("\n")


def test_a_value_that_is_no_json_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "value.json", {"a": object()})
    assert names(tmp_path) == []


def test_a_lock_excludes_threads(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with lock(tmp_path / "locks" / "lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert (inside, most) == (0, 1)


def _hold(path: Path, held: multiprocessing.synchronize.Event) -> None:
    with lock(path):
        held.set()
        time.sleep(60)


def test_a_lock_of_another_process_excludes_and_dies_with_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, taken = context.Event(), threading.Event()
    process = context.Process(target=_hold, args=(tmp_path / "lock", held))
    process.start()
    assert held.wait(timeout=20)

    def take() -> None:
        with lock(tmp_path / "lock"):
            taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    try:
        assert not taken.wait(timeout=0.2)
    finally:
        process.kill()
        process.join()
    assert taken.wait(timeout=5)
    thread.join()


def test_a_lock_is_freed_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), lock(tmp_path / "lock"):
        raise ValueError("inside")
    with lock(tmp_path / "lock"):
        pass


def test_a_lock_need_not_be_waited_for(tmp_path: Path) -> None:
    with lock(tmp_path / "lock") as first:
        with lock(tmp_path / "lock", wait=False) as second:
            assert (first, second) == (True, False)
        with lock(tmp_path / "another", wait=False) as other:
            assert other
    with lock(tmp_path / "lock", wait=False) as again:
        assert again


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    for left in (".a*b.x1.part", ".a*b.x2.part", ".axb.x3.part", ".a*b.txt"):
        (tmp_path / left).write_text("half")

    def write_again(file: BinaryIO) -> None:
        file.write(b"outer")
        write_text(tmp_path / "a*b", "inner")  # another writer of the same file, meanwhile

    write_atomically(tmp_path / "a*b", write_again)
    assert (tmp_path / "a*b").read_text() == "outer"
    assert names(tmp_path) == [".a*b.txt", ".axb.x3.part", "a*b"]


def test_errors_are_one_family_with_exit_codes() -> None:
    codes = {error: error.exit_code for error in (UsageError, InputError, DataError, ModelError)}
    assert set(codes.values()) == {2}
    assert TrainingError.exit_code == StorageError.exit_code == 1
    assert all(issubclass(error, CrystrataError) for error in (*codes, TrainingError, StorageError))


def test_the_nearest_name_is_suggested() -> None:
    assert nearest("Cgcn", ["e3nn", "cgcnn"]) == "; did you mean 'cgcnn'?"
    assert nearest("zzz", ["e3nn", "cgcnn"]) == ""
    error = unknown_name("encoder", "cgcn", iter(["e3nn", "cgcnn"]))
    assert str(error) == "unknown encoder 'cgcn'; did you mean 'cgcnn'? (known: e3nn, cgcnn)"
