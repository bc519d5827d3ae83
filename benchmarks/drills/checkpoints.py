"""Drills of checkpoint files: killed while they are written, cut, flipped, on a full disk, in a read-only folder."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from crystrata.errors import ModelError, StorageError
from crystrata.runs.directory import CHECKPOINT
from crystrata.training import parts
from crystrata.training.checkpoints import AtomicCheckpointIO, earlier, newest_sound, read_checkpoint, write_checkpoint
from drills.drill import Drill, NotTried, Tally

_SMALL_PARTS = 400_000
"""Size of parts [byte] where a drill is about files in parts: a checkpoint here has four."""


def _values(number: int) -> dict[str, object]:
    """Return a checkpoint of which every part tells its number."""
    return {"number": number, "weights": [torch.full((300, 300), float(number)) for _ in range(4)]}


def _is_whole(values: dict[str, object]) -> bool:
    return all(bool((part == values["number"]).all()) for part in values["weights"])  # type: ignore[attr-defined]


def _write_for_ever(path: Path, elsewhere: Path, part_bytes: int) -> None:
    os.environ["TMPDIR"], parts.PART_BYTES = str(elsewhere), part_bytes
    writer = AtomicCheckpointIO(keep=3)
    number = newest_number(path)
    while True:
        number += 1
        writer.save_checkpoint(_values(number), path)


def newest_number(path: Path) -> int:
    """Return the number of the newest checkpoint, 0 if there is none."""
    return int(read_checkpoint(newest_sound(path)[0])["number"]) if path.exists() else 0


def _kills_while_saving(quick: bool, scratch: Path, tally: Tally, part_bytes: int = parts.PART_BYTES) -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        raise NotTried("this system cannot fork")
    luck, path = random.Random(4), scratch / "run" / CHECKPOINT
    elsewhere = Path("/dev/shm") if Path("/dev/shm").is_dir() else scratch
    context, last = multiprocessing.get_context("forkserver"), 0
    context.set_forkserver_preload(["drills.checkpoints"])
    for _ in range(5 if quick else 200):
        process = context.Process(target=_write_for_ever, args=(path, elsewhere, part_bytes))
        process.start()
        while process.is_alive() and not path.exists():
            time.sleep(0.001)
        time.sleep(luck.uniform(0.02, 0.1))
        process.kill()
        process.join()
        found, wrong = newest_sound(path)
        values = read_checkpoint(found)
        tally.check(
            not wrong and _is_whole(values) and values["number"] >= last, f"after a kill: {wrong or 'older or mixed'}"
        )
        last = values["number"]
        for leftover in path.parent.glob(".*.part"):  # as the next start of a run does
            leftover.unlink()
        parts.remove_unnamed_parts(path.parent)
        files = sorted(file.name for file in path.parent.iterdir() if not file.name.endswith(".pt"))
        tally.check(bool(files) == (part_bytes < parts.PART_BYTES) and len(files) <= 12, f"left after a kill: {files}")


def _corruption(quick: bool, scratch: Path, tally: Tally) -> None:
    luck, path = random.Random(5), scratch / CHECKPOINT
    for number in (1, 2):
        write_checkpoint(path, _values(number), keep=2)
    whole = path.read_bytes()
    for attempt in range(30 if quick else 600):
        damaged = bytearray(whole)
        if attempt % 3:
            damaged[luck.randrange(len(damaged))] ^= 1 << luck.randrange(8)
        else:
            del damaged[luck.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        found, wrong = newest_sound(path)
        tally.check(found == earlier(path, 1) and len(wrong) == 1, f"damage {attempt} not found")
        tally.check(read_checkpoint(found)["number"] == 1, "the one before is not as it was")
    path.write_bytes(whole)
    tally.check(newest_sound(path) == (path, []), "a whole file is not read")


def _corruption_of_parts(quick: bool, scratch: Path, tally: Tally) -> None:
    luck, path = random.Random(6), scratch / CHECKPOINT
    with _small_parts():
        write_checkpoint(path, _values(1), keep=2)
        first = set(scratch.iterdir())
        write_checkpoint(path, _values(2), keep=2)
    files = [path, *sorted(file for file in set(scratch.iterdir()) - first if not file.name.endswith(".pt"))]
    for attempt in range(30 if quick else 600):
        file = files[attempt % len(files)]
        whole = file.read_bytes()
        damaged = bytearray(whole)
        if luck.randrange(3):
            damaged[luck.randrange(len(damaged))] ^= 1 << luck.randrange(8)
        else:
            del damaged[luck.randrange(len(damaged)) :]
        file.write_bytes(damaged)
        found, wrong = newest_sound(path)
        tally.check(found == earlier(path, 1) and len(wrong) == 1, f"damage {attempt} of {file.name} not found")
        file.write_bytes(whole)
    tally.check(newest_sound(path) == (path, []), "a whole file is not read")


@contextmanager
def _small_parts() -> Iterator[None]:
    usual, parts.PART_BYTES = parts.PART_BYTES, _SMALL_PARTS
    try:
        yield
    finally:
        parts.PART_BYTES = usual


@contextmanager
def _small_disk(scratch: Path, flags: str) -> Iterator[Path]:
    """Mount a disk of a few megabytes.

    Raises:
        NotTried: This user cannot.
    """
    folder = scratch / "disk"
    folder.mkdir()
    if shutil.which("mount") is None or subprocess.run(
        ["mount", "-t", "tmpfs", "-o", flags, "tmpfs", str(folder)], capture_output=True
    ).returncode:  # fmt: skip
        raise NotTried("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _full_disk(quick: bool, scratch: Path, tally: Tally) -> None:
    with _small_disk(scratch, "size=6m") as disk:
        path = disk / CHECKPOINT
        for size in range(1, 4 if quick else 12):
            write_checkpoint(path, _values(size), keep=2)
            (disk / "filler").write_bytes(bytes(2_000_000))
            try:
                write_checkpoint(path, {**_values(99), "more": torch.zeros(size, 400_000)}, keep=2)
                tally.check(False, "nothing was said of the full disk")
            except StorageError as error:
                tally.check("No space left" in str(error) and "\n" not in str(error), f"said: {error}")
            tally.check(read_checkpoint(path)["number"] == size, "the checkpoint before is gone")
            tally.check(not list(disk.glob(".*")), "something half-written is left over")
            (disk / "filler").unlink()


def _read_only(quick: bool, scratch: Path, tally: Tally) -> None:
    with _small_disk(scratch, "size=4m") as disk:
        path = disk / CHECKPOINT
        write_checkpoint(path, _values(1), keep=2)
        if subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True).returncode:
            raise NotTried("this system cannot make a disk read-only")
        try:
            write_checkpoint(path, _values(2), keep=2)
            tally.check(False, "nothing was said of the read-only disk")
        except StorageError as error:
            tally.check("Read-only" in str(error), f"said: {error}")
        tally.check(read_checkpoint(path)["number"] == 1, "the checkpoint before is gone")


def _foreign(quick: bool, scratch: Path, tally: Tally) -> None:
    path, touched = scratch / CHECKPOINT, scratch / "touched"

    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(touched),)

    torch.save({"state_dict": {}, "more": Code()}, path)
    plain = path.read_bytes()
    write_checkpoint(path, {"state_dict": {}, "more": Code()})
    for content in (plain, path.read_bytes(), b"", b"rubbish" * 1000):
        path.write_bytes(content)
        try:
            read_checkpoint(path)
            tally.check(False, "a foreign file was read")
        except ModelError as error:
            tally.check(str(path) in str(error), f"said: {error}")
    tally.check(not touched.exists(), "a checkpoint ran code")


DRILLS = (
    Drill(
        "kills-while-saving",
        "killed while it saves, temporary folder on another disk: the newest is whole",
        _kills_while_saving,
    ),
    Drill("kills-in-parts", "the same where it saves in parts", partial(_kills_while_saving, part_bytes=_SMALL_PARTS)),
    Drill("corruption", "a flipped bit or a cut is found, the checkpoint before is taken", _corruption),
    Drill("corruption-of-parts", "the same where a part or their list is damaged", _corruption_of_parts),
    Drill("full-disk", "one line, the checkpoint before stays, nothing half-written is left", _full_disk),
    Drill("read-only", "one line, the checkpoint before stays", _read_only),
    Drill("foreign-checkpoint", "a file that holds code or rubbish is refused, and the code not run", _foreign),
)
