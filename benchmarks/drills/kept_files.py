"""Stores, portable stores, hulls and prototypes on a bad disk: damage is found, a full or locked one harms nothing."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from crystrata.errors import DataError, StorageError
from drills.drill import Tally
from drills.kept_things import KEPT, all_kinds, exported, imported
from drills.yard import KILLED, Yard, yard

NOTES = (".lock", ".checked")


def damaged_files(quick: bool, scratch: Path, tally: Tally) -> None:
    """Damage each file in many ways: it is made anew with a warning, byte for byte, or not used at all."""
    chance = random.Random(0)
    for kind, make in KEPT.items():
        folder = scratch / kind
        value, whole = make(folder), _content(folder)
        for name in whole:
            for _ in range(2 if quick else 60):
                if chance.random() < 0.1:  # settled files, whose check is noted
                    time.sleep(0.15)
                    make(folder)
                where = f"{kind}, {name}: {damage(folder / name, chance)}"
                with warnings.catch_warnings(record=True) as warned:
                    warnings.simplefilter("always")
                    again = make(folder)
                tally.check(again == value, f"{where}: its content was used")
                tally.check(len(warned) == 1, f"{where}: {len(warned)} warnings")
                tally.check(_content(folder) == whole, f"{where}: what was made anew differs")


def damaged_portable(quick: bool, scratch: Path, tally: Tally) -> None:
    """Damage a portable store in many ways: refused in one line, or unpacked as it was; no store is left half."""
    chance, portable = random.Random(1), scratch / "portable"
    whole = exported(scratch / "source", scratch)
    value = imported(portable, scratch / "target")
    for number in range(20 if quick else 1200):
        portable.write_bytes(whole)
        where, folder = f"portable store, {damage(portable, chance)}", scratch / str(number)
        try:
            tally.check(imported(portable, folder) == value, f"{where}: another store came out")
        except DataError as refusal:
            named = str(portable) in str(refusal) and "\n" not in str(refusal)
            tally.check(named and not _content(folder), f"{where}: {refusal}; left {sorted(_content(folder))}")
        shutil.rmtree(folder, ignore_errors=True)


def killed_writers(quick: bool, scratch: Path, tally: Tally) -> None:
    """Kill what writes hulls, prototypes and portable stores before each step: the next start is as if never killed."""
    kinds = all_kinds(scratch)
    children = yard(partial(_warm, scratch / "warm"))
    for kind in ("hull", "prototypes", "export"):
        value, step, killed = kinds[kind](_folder(scratch / kind)), 0, True
        names = set(_names(scratch / kind))
        while killed:
            step += 3 if quick else 1
            folder = _folder(scratch / f"{kind} {step}")
            ending = children.run(partial(kinds[kind], folder), kill_at=step)
            killed = ending.code == KILLED
            tally.check(ending.code in (0, KILLED), f"{kind}, step {step}: ended with {ending.code} {ending.said}")
            tally.check(kinds[kind](folder) == value, f"{kind}, step {step}: the next start gives another value")
            left = set(_names(folder)) - names
            tally.check(not left, f"{kind}, step {step}: left over {', '.join(left)}")
        tally.check(step > 3, f"{kind}: only {step} steps were seen")


def full_disks(quick: bool, scratch: Path, tally: Tally) -> None:
    """Fill the disk at many sizes: one line, exit code 1, nothing half left, and with space again all is well."""
    children = yard(partial(_warm, scratch / "warm"))
    for kind, make in all_kinds(scratch).items():
        value = make(_folder(scratch / kind))
        largest = max(len(content) for content in _content(scratch / kind).values())
        for part in (0.5,) if quick else [n / 12 for n in range(12)]:
            limit = round(part * largest)
            folder, where = _folder(scratch / f"{kind} {limit}"), f"{kind}, no file longer than {limit} bytes"
            ending = children.run(partial(make, folder), largest_file=limit)
            _check_refused(tally, ending.code, str(ending.said), where)
            tally.check(not _content(folder), f"{where}: left {sorted(_content(folder))}")
            tally.check(make(folder) == value, f"{where}: with space again another value")
    if not quick:
        _through_the_door(children, scratch, tally)
        _small_disks(scratch, tally)


def _through_the_door(children: Yard, scratch: Path, tally: Tally) -> None:
    """The command itself, on the demo crystals: the same line and exit code."""
    data = scratch / "door"
    ending = children.run(partial(_command, data), largest_file=100_000)
    code, said = ending.said
    _check_refused(tally, code, said.removeprefix("error: ").removesuffix("\n"), "the command on a full disk")
    tally.check(not _content(data), f"the command on a full disk: left {sorted(_content(data))}")


def _small_disks(scratch: Path, tally: Tally) -> None:
    """Real small disks, where this system lets one be mounted."""
    for kind, make in all_kinds(_folder(scratch / "small disk source")).items():
        for kilobytes in (4, 8, 16, 32, 48, 60):
            disk = _folder(scratch / f"{kind} on {kilobytes} kB")
            if subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk], capture_output=True
            ).returncode:
                return
            try:
                _fill(make, disk, tally, f"{kind} on a disk of {kilobytes} kB")
            finally:
                subprocess.run(["umount", disk], check=True)


def _fill(make: Callable[[Path], bytes], disk: Path, tally: Tally, where: str) -> None:
    try:
        make(disk)
    except StorageError as error:
        _check_refused(tally, error.exit_code, str(error), where)
        tally.check(not _content(disk), f"{where}: left {sorted(_content(disk))}")


def locked_folders(quick: bool, scratch: Path, tally: Tally) -> None:
    """Make and read in folders that cannot be written: refused in one line; what is there can still be read."""
    children = yard(partial(_warm, scratch / "warm"))
    for kind, make in all_kinds(scratch).items():
        value = make(_folder(scratch / f"{kind} there"))
        for there in (False, True):
            folder = _folder(scratch / f"{kind} {'there' if there else 'empty'}")
            before, where = _content(folder), f"{kind}, locked folder {'with' if there else 'without'} it"
            locked = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
            for path in locked:
                path.chmod(0o555)
            ending = children.run(partial(make, folder), no_privileges=True)
            for path in locked:
                path.chmod(0o755)
            if there and kind != "export":
                tally.check((ending.code, ending.said) == (0, value), f"{where}: {ending.code} {ending.said!r:.200}")
            else:
                _check_refused(tally, ending.code, str(ending.said), where)
            tally.check(_content(folder) == before, f"{where}: the folder changed")


def _check_refused(tally: Tally, code: int, said: str, where: str) -> None:
    one_line = said.startswith("cannot write ") and "\n" not in said
    tally.check(code == StorageError.exit_code and one_line, f"{where}: ended with {code}: {said[:200]}")


def damage(file: Path, chance: random.Random) -> str:
    """Damage a file in some way; now and then its time of change is put back, as on a disk that decays."""
    whole, state = file.read_bytes(), file.stat()
    at, bit = chance.randrange(len(whole)), 1 << chance.randrange(8)
    damages = {
        f"bit {bit} of byte {at} flipped": whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :],
        f"cut at {at}": whole[:at],
        f"{at} bytes more": whole + bytes(at or 1),
        f"all from {at} replaced": whole[:at] + bytes(255 - byte for byte in whole[at:]),
    }
    what = chance.choices(list(damages), weights=(6, 2, 1, 1))[0]
    file.write_bytes(damages[what])
    if chance.random() < 0.5:
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
        what += ", time put back"
    return what


def _command(data: Path) -> tuple[int, str]:
    """Run the store door; return its exit code and what it wrote to the standard error."""
    import contextlib
    import io

    from crystrata.cli.store import main

    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = main(["--source", "demo", "--data-dir", str(data)])
    return code, said.getvalue()


def _warm(folder: Path) -> None:
    """Import what all kinds need."""
    for kind in KEPT.values():
        kind(folder)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _content(folder: Path) -> dict[str, bytes]:
    """Files of a folder and of those in it, without locks and notes of checks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in NOTES)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
