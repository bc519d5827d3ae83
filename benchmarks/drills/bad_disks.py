"""Full disks and locked folders under everything that is kept: one line, exit code 1, nothing half left."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from crystrata.errors import StorageError
from drills.drill import Drill, Tally
from drills.kept_things import all_kinds, content_of, folder_at, warm
from drills.yard import Yard, yard


def full_disks(quick: bool, scratch: Path, tally: Tally) -> None:
    """Fill the disk at many sizes: one line, exit code 1, nothing half left, and with space again all is well."""
    children = yard(partial(warm, scratch / "warm"))
    for kind, make in all_kinds(scratch).items():
        value = make(folder_at(scratch / kind))
        largest = max(len(content) for content in content_of(scratch / kind).values())
        for part in (0.5,) if quick else [n / 12 for n in range(12)]:
            limit = round(part * largest)
            folder, where = folder_at(scratch / f"{kind} {limit}"), f"{kind}, no file longer than {limit} bytes"
            ending = children.run(partial(make, folder), largest_file=limit)
            _check_refused(tally, ending.code, str(ending.said), where)
            tally.check(not content_of(folder), f"{where}: left {sorted(content_of(folder))}")
            tally.check(make(folder) == value, f"{where}: with space again another value")
    if not quick:
        _through_the_command(children, scratch, tally)
        _small_disks(scratch, tally)


def _through_the_command(children: Yard, scratch: Path, tally: Tally) -> None:
    """The command itself, on the demo crystals: the same line and exit code."""
    data = scratch / "command"
    ending = children.run(partial(_command, data), largest_file=100_000)
    code, said = ending.said
    _check_refused(tally, code, said.removeprefix("error: ").removesuffix("\n"), "the command on a full disk")
    tally.check(not content_of(data), f"the command on a full disk: left {sorted(content_of(data))}")


def _small_disks(scratch: Path, tally: Tally) -> None:
    """Real small disks, where this system lets one be mounted."""
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        return
    for kind, make in all_kinds(folder_at(scratch / "small disk source")).items():
        for kilobytes in (4, 8, 16, 32, 48, 60):
            disk = folder_at(scratch / f"{kind} on {kilobytes} kB")
            command = [mount, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk]
            if subprocess.run(command, capture_output=True).returncode:
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
        tally.check(not content_of(disk), f"{where}: left {sorted(content_of(disk))}")


def locked_folders(quick: bool, scratch: Path, tally: Tally) -> None:
    """Make and read in folders that cannot be written: refused in one line; what is there can still be read."""
    children = yard(partial(warm, scratch / "warm"))
    for kind, make in all_kinds(scratch).items():
        value = make(folder_at(scratch / f"{kind} there"))
        for there in (False, True):
            folder = folder_at(scratch / f"{kind} {'there' if there else 'empty'}")
            before, where = content_of(folder), f"{kind}, locked folder {'with' if there else 'without'} it"
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
            tally.check(content_of(folder) == before, f"{where}: the folder changed")


def _check_refused(tally: Tally, code: int, said: str, where: str) -> None:
    one_line = said.startswith("cannot write ") and "\n" not in said
    tally.check(code == StorageError.exit_code and one_line, f"{where}: ended with {code}: {said[:200]}")


def _command(data: Path) -> tuple[int, str]:
    """Run `crystrata store`; return its exit code and what it wrote to the standard error."""
    from crystrata.cli.store import main

    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = main(["--source", "demo", "--data-dir", str(data)])
    return code, said.getvalue()


DRILLS = (
    Drill("kept-full-disk", "a full disk: one line, exit code 1, nothing half left", full_disks),
    Drill("kept-locked", "a folder without permission: the same, and what is there can be read", locked_folders),
)
