"""Checkpoints in parts: whole or nothing wherever a writer is killed, damage found, nothing left over."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from crystrata.errors import ModelError, StorageError
from crystrata.training import parts
from crystrata.training.checkpoints import earlier, newest_sound, read_checkpoint, remove_checkpoint, write_checkpoint

SMALL = 5_000
FILE_EVENTS = {"open", "os.chmod", "os.link", "os.remove", "os.rename", "os.scandir", "os.listdir"}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts so small that a test needs no large files."""
    monkeypatch.setattr(parts, "PART_BYTES", SMALL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint in parts, number 2, and the one before, number 1."""
    file = tmp_path / "run" / "checkpoint.pt"
    for number in (1, 2):
        write_checkpoint(file, values(number), keep=2)
    return file


def values(number: int) -> dict[str, Any]:
    return {"number": number, "weights": torch.arange(2500) * float(number)}


def number_of(file: Path) -> int:
    content = read_checkpoint(file)
    assert torch.equal(content["weights"], values(content["number"])["weights"])
    return int(content["number"])


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def parts_of(file: Path) -> list[Path]:
    return [file.with_name(line.split("  ")[1]) for line in file.read_text().splitlines()[1:]]


def test_a_large_file_is_an_index_and_parts_that_are_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = parts_of(path)
    assert [file.stat().st_size for file in found[:-1]] == [SMALL] * (len(found) - 1)
    assert len(found) > 2
    assert 0 < found[-1].stat().st_size <= SMALL
    assert path.stat().st_size < 1000
    assert names(path.parent) == {
        path.name,
        "checkpoint.1.pt",
        *(f.name for f in (*found, *parts_of(earlier(path, 1)))),
    }
    assert [number_of(path), number_of(earlier(path, 1))] == [2, 1]
    monkeypatch.setattr(parts, "PART_BYTES", 15_000_000)
    write_checkpoint(path.with_name("whole.pt"), values(2))
    assert b"".join(file.read_bytes() for file in found) == path.with_name("whole.pt").read_bytes()


@pytest.mark.parametrize(("more", "in_parts"), [(0, False), (-1, True)])
def test_the_largest_file_that_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int, in_parts: bool
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 15_000_000)
    write_checkpoint(tmp_path / "best.pt", values(1))
    size = (tmp_path / "best.pt").stat().st_size
    monkeypatch.setattr(parts, "PART_BYTES", size + more)
    write_checkpoint(tmp_path / "best.pt", values(1))
    assert (len(names(tmp_path)) > 1) == in_parts
    assert number_of(tmp_path / "best.pt") == 1


def test_the_largest_part_passes_a_carrier_of_16_mebibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert parts.PART_BYTES == 15_000_000 < 16 * 2**20


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="this system has no sha256sum")
def test_sha256sum_reads_the_index(path: Path) -> None:
    check = ["sha256sum", "--check", "--strict", "--quiet", path.name]
    assert subprocess.run(check, cwd=path.parent, capture_output=True).returncode == 0
    parts_of(path)[1].write_bytes(b"other")
    said = subprocess.run(check, cwd=path.parent, capture_output=True, text=True)
    assert said.returncode == 1
    assert parts_of(path)[1].name in said.stdout


def test_a_file_that_becomes_small_loses_its_parts(path: Path) -> None:
    for _ in range(2):
        write_checkpoint(path, {"number": 3}, keep=2)
    assert names(path.parent) == {"checkpoint.pt", "checkpoint.1.pt"}


def test_equal_content_is_shared_and_outlives_one_of_two(path: Path) -> None:
    write_checkpoint(path, values(2), keep=2)
    assert parts_of(path) == parts_of(earlier(path, 1))
    remove_checkpoint(path)
    assert number_of(earlier(path, 1)) == 2


def test_a_removed_file_takes_its_parts_along_and_no_others(path: Path) -> None:
    foreign = path.with_name("notes.pt.1")
    foreign.write_text("mine")
    remove_checkpoint(earlier(path, 1))
    assert names(path.parent) == {path.name, foreign.name, *(file.name for file in parts_of(path))}
    remove_checkpoint(path)
    assert names(path.parent) == {foreign.name}


@pytest.mark.parametrize("which", [0, 1, -1])
@pytest.mark.parametrize("damage", ["missing", "short", "long", "flipped", "swapped"])
def test_a_damaged_part_is_named_and_the_checkpoint_before_taken(path: Path, which: int, damage: str) -> None:
    part = parts_of(path)[which]
    content = bytearray(part.read_bytes())
    if damage == "missing":
        part.unlink()
    elif damage == "flipped":
        content[len(content) // 2] ^= 4
        part.write_bytes(content)
    else:
        other = parts_of(earlier(path, 1))[which].read_bytes()
        part.write_bytes({"short": content[:-1], "long": content + b"\0", "swapped": other}[damage])
    found, wrong = newest_sound(path)
    assert found == earlier(path, 1)
    assert number_of(found) == 1
    assert len(wrong) == 1
    assert part.name in wrong[0]
    assert "is damaged" in wrong[0]
    assert "\n" not in wrong[0]


def test_every_flipped_or_lost_byte_of_the_index_is_found(path: Path) -> None:
    whole = path.read_bytes()
    for place in range(len(whole)):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(ModelError, match=r"checkpoint\.pt is damaged"):
                read_checkpoint(path)


@pytest.mark.parametrize("name", ["../secret.0123456789abcdef.1", "/etc/passwd", "..", "", "best.pt"])
def test_an_index_reaches_nothing_but_parts_beside_it(path: Path, name: str) -> None:
    secret = path.parent.parent / "secret.0123456789abcdef.1"
    secret.write_bytes(b"secret")
    digest = hashlib.sha256(b"secret").hexdigest()
    path.write_bytes(path.read_bytes().split(b"\n")[0] + f"\n{digest}  {name}\n".encode())
    with pytest.raises(ModelError, match="its list of parts cannot be read"):
        read_checkpoint(path)


def test_code_in_parts_is_not_run(path: Path, tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "touched"),)

    write_checkpoint(path, {**values(1), "more": Code()})
    assert len(parts_of(path)) > 2
    with pytest.raises(ModelError, match=r"damaged or no checkpoint of Crystrata"):
        read_checkpoint(path)
    assert not (tmp_path / "touched").exists()


def test_a_reader_that_meets_a_newer_file_takes_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inference while a run is training: the parts of the index that it has read may be gone already."""
    read, second = Path.read_bytes, path.read_bytes()

    def read_slowly(file: Path) -> bytes:
        content = read(file)
        if content == second:
            write_checkpoint(path, values(3))
        return content

    monkeypatch.setattr(Path, "read_bytes", read_slowly)
    assert number_of(path) == 3


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_full_disk_leaves_the_files_before_and_no_others(
    path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for some of the parts."""
    before, written, fsync = names(path.parent), [], os.fsync

    def full(handle: int) -> None:
        written.append(handle)
        if len(written) > room:
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_checkpoint(path, values(3), keep=2)
    assert len(written) == room + 1
    assert names(path.parent) == before
    assert [number_of(path), number_of(earlier(path, 1))] == [2, 1]


def _save_and_die(path: Path, operation: int) -> None:
    """Write the next checkpoint and be killed before a file operation, counted from 1."""
    parts.PART_BYTES = SMALL
    done = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal done
        if event in FILE_EVENTS and str(arguments[0]).startswith(str(path.parent)):
            done += 1
            if done == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    write_checkpoint(path, values(3), keep=2)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process without warning")
def test_a_kill_before_any_file_operation_leaves_sound_checkpoints(path: Path, tmp_path: Path) -> None:
    context, kills, newest = multiprocessing.get_context("forkserver"), 0, []
    context.set_forkserver_preload(["crystrata.training.checkpoints"])
    while True:
        run = Path(shutil.copytree(path.parent, tmp_path / f"killed_{kills}"))
        process = context.Process(target=_save_and_die, args=(run / path.name, kills + 1))
        process.start()
        process.join()
        found, wrong = newest_sound(run / path.name)
        assert (found, wrong) == (run / path.name, [])
        assert number_of(earlier(found, 1)) in (1, 2)
        newest.append(number_of(found))
        parts.remove_unnamed_parts(run)  # as the next start does
        assert number_of(found) == newest[-1]
        write_checkpoint(found, values(4), keep=2)
        assert [number_of(found), number_of(earlier(found, 1))] == [4, newest[-1]]
        kept = {part.name for file in (found, earlier(found, 1)) for part in parts_of(file)}
        assert names(run) == {found.name, earlier(found, 1).name, *kept}
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    assert newest == sorted(newest)
    assert set(newest) == {2, 3}
    assert kills > 25


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_checkpoints_move_one_name_on(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "checkpoint.pt"
    for number in range(1, 7):
        write_checkpoint(path, values(number), keep=keep)
    kept = [number_of(earlier(path, age)) for age in range(keep)]
    assert kept == [6 - age for age in range(keep)]
    assert len(list(tmp_path.glob("checkpoint*.pt"))) == keep
