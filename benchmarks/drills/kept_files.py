"""Stores, portable stores, hulls and prototypes that are damaged, or whose writers are killed."""

from __future__ import annotations

import os
import random
import shutil
import time
import warnings
from functools import partial
from pathlib import Path

from crystrata.errors import DataError
from drills.children import KILLED
from drills.drill import Drill, Tally
from drills.kept_things import KEPT, all_kinds, content_of, exported, folder_at, imported, names_in, warm
from drills.yard import yard


def damaged_files(quick: bool, scratch: Path, tally: Tally) -> None:
    """Damage each file in many ways: it is made again with a warning, byte for byte, or not used at all."""
    chance = random.Random(0)
    for kind, make in KEPT.items():
        folder = scratch / kind
        value, whole = make(folder), content_of(folder)
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
                tally.check(content_of(folder) == whole, f"{where}: what was made again differs")


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
            tally.check(named and not content_of(folder), f"{where}: {refusal}; left {sorted(content_of(folder))}")
        shutil.rmtree(folder, ignore_errors=True)


def killed_writers(quick: bool, scratch: Path, tally: Tally) -> None:
    """Kill what writes hulls, prototypes and portable stores before each step: the next start is as if never killed."""
    kinds = all_kinds(scratch)
    children = yard(partial(warm, scratch / "warm"))
    for kind in ("hull", "prototypes", "export"):
        value, step, killed = kinds[kind](folder_at(scratch / kind)), 0, True
        names = set(names_in(scratch / kind))
        while killed:
            step += 3 if quick else 1
            folder = folder_at(scratch / f"{kind} {step}")
            ending = children.run(partial(kinds[kind], folder), kill_at=step)
            killed = ending.code == KILLED
            tally.check(ending.code in (0, KILLED), f"{kind}, step {step}: ended with {ending.code} {ending.said}")
            tally.check(kinds[kind](folder) == value, f"{kind}, step {step}: the next start gives another value")
            left = set(names_in(folder)) - names
            tally.check(not left, f"{kind}, step {step}: left over {', '.join(left)}")
        tally.check(step > 3, f"{kind}: only {step} steps were seen")


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


DRILLS = (
    Drill(
        "kept-damaged",
        "flipped bits, cuts in stores, hulls, prototypes: found, warned of, made again as before",
        damaged_files,
    ),
    Drill("kept-portable", "the same in a portable store: refused in one line, or harmless", damaged_portable),
    Drill(
        "kept-killed",
        "SIGKILL before each step of writing hulls, prototypes, portable stores: no trace left",
        killed_writers,
    ),
)  # fmt: skip
