"""Graph stores: builds that are killed, builders at once, changed inputs; never a half or stale store."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from crystrata.files import digest_of_json
from crystrata.graph_settings import GraphSettings
from crystrata.graphs import store as store_module
from crystrata.graphs.portable import export_portable
from crystrata.graphs.store import GraphStore, open_store, store_path
from crystrata.sources.table import CrystalTable
from drills.children import KILLED, Ending
from drills.drill import Drill, Tally
from drills.small_stores import (
    SETTINGS,
    build,
    bytes_of,
    left_over,
    open_anew,
    real_crystals,
    rock_salts,
    spoil,
    table_of,
    unpack,
    warm,
)
from drills.yard import yard


def killed_at_random(quick: bool, scratch: Path, tally: Tally) -> None:
    """Kill builds at random times, several in a row, with and without worker processes."""
    chance, table = random.Random(0), table_of(rock_salts(60) if quick else real_crystals(300))
    whole = open_store(table, SETTINGS, scratch / "whole")
    runs = [(0, 0.06 if quick else 0.35)] * (5 if quick else 120) + [(2, 1.2)] * (1 if quick else 20)
    children = yard(warm)
    for number, (workers, latest) in enumerate(runs):
        stores, where = scratch / str(number), f"killed build {number} with {workers} workers"
        for _ in range(chance.randint(1, 3) if not workers else 1):
            ending = children.run(partial(build, table, stores, workers), kill_after=chance.uniform(0, latest))
            _check_pause(tally, ending, stores / whole.path.name, where)
        _check_next(tally, table, stores, whole, where)


def killed_at_each_step(quick: bool, scratch: Path, tally: Tally) -> None:
    """Kill a build and an import before each step that they make on the file system, also over a damaged store."""
    table = table_of(rock_salts(6))
    whole = open_store(table, SETTINGS, scratch / "whole")
    export_portable(whole, scratch / "portable")
    works: dict[str, Callable[[Path], Any]] = {
        "build": partial(build, table), "import": partial(unpack, scratch / "portable")
    }  # fmt: skip
    children = yard(warm)
    for what, work in works.items():
        for damaged in (False, True):
            steps = 0
            ending = Ending(KILLED, "", False)
            while ending.code == KILLED:
                steps += 9 if quick else 1
                where = f"{what}, {'damaged' if damaged else 'nothing'} there before, killed at step {steps}"
                stores = scratch / where
                if damaged:
                    spoil(open_store(table, SETTINGS, stores).path / "frac.bin")
                ending = children.run(partial(work, stores), kill_at=steps)
                _check_pause(tally, ending, None if damaged else stores / whole.path.name, where)
                _check_next(tally, table, stores, whole, where)
            tally.check(steps > 15, f"{what}: only {steps} steps were seen")


def builders_at_once(quick: bool, scratch: Path, tally: Tally) -> None:
    """Start 2 and 4 builders of one store at once, on nothing and on a damaged store."""
    table = table_of(rock_salts(60) if quick else real_crystals(300))
    whole = open_store(table, SETTINGS, scratch / "whole")
    children = yard(warm)
    for number in range(4 if quick else 32):
        stores, many, damaged = scratch / str(number), (2, 4)[number % 2], number % 4 > 1
        if damaged:
            spoil(open_store(table, SETTINGS, stores).path / "vector.bin")
        endings = children.run_all([partial(build, table, stores)] * many)
        where = f"{many} builders at once on {'a damaged store' if damaged else 'nothing'}, {number}"
        for ending in endings:
            holds = (ending.code, ending.said) == (0, digest_of_json(whole.header))
            tally.check(holds, f"{where}: ended with {ending.code}: {ending.said}")
        _check_next(tally, table, stores, whole, where)


def changed_inputs(quick: bool, scratch: Path, tally: Tally) -> None:
    """Change each setting, the crystals and the schema: another store each time, equal to one built on its own."""
    chance, crystals, stores = random.Random(1), rock_salts(5), scratch / "stores"
    names: set[str] = set()
    for number in range(2 if quick else 25):
        changes: dict[str, Any] = {
            "k": 6 + number, "delta": chance.uniform(0.1, 0.5), "cutoff": chance.uniform(6, 9),
            "angle_cutoff": chance.uniform(3, 5), "crystals": rock_salts(5, first=chance.uniform(3.8, 5)),
        }  # fmt: skip
        for name, value in changes.items():
            table = table_of(value if name == "crystals" else crystals)
            settings = SETTINGS if name == "crystals" else GraphSettings(**{name: value})
            opened = open_store(table, settings, stores)
            tally.check(opened.path.name not in names, f"{name} changed, {number}: a store that was there before")
            names.add(opened.path.name)
            alone = open_store(table, settings, scratch / f"alone {number} {name}")
            tally.check(_same(opened, alone), f"{name} changed, {number}: not what these inputs give")
    _check_moved(tally, table_of(crystals), scratch / "moved")
    _check_schema(tally, stores)


def _check_moved(tally: Tally, table: CrystalTable, stores: Path) -> None:
    """A sound store of other settings, put where one is expected, is stale: it must not be opened."""
    expected, other = (open_store(table, settings, stores) for settings in (SETTINGS, GraphSettings(k=8)))
    content = bytes_of(expected.path)
    for file in expected.path.iterdir():
        file.write_bytes((other.path / file.name).read_bytes())
    opened, warned = open_anew(table, stores)
    tally.check(bytes_of(opened.path) == content, "a store moved to the place of another one was opened there")
    tally.check(len(warned) == 1, "a store moved to the place of another one was replaced without a word")


def _check_schema(tally: Tally, stores: Path) -> None:
    before, version = store_path(stores, "d", SETTINGS), store_module.SCHEMA_VERSION
    store_module.SCHEMA_VERSION = version + 1
    try:
        tally.check(store_path(stores, "d", SETTINGS) != before, "another schema version has the same store")
    finally:
        store_module.SCHEMA_VERSION = version


def _check_pause(tally: Tally, ending: Ending, path: Path | None, where: str) -> None:
    """Between the kill and the next start: no process lives on; what stands at the place of the store is whole."""
    tally.check(ending.code in (0, KILLED), f"{where}: ended with {ending.code}: {ending.said}")
    tally.check(not ending.left, f"{where}: processes lived on")
    if path is not None and path.exists():
        GraphStore(path).verify()


def _check_next(tally: Tally, table: CrystalTable, stores: Path, whole: GraphStore, where: str) -> None:
    """The next start opens or builds the store: the bytes of an undisturbed build, and nothing is left over."""
    opened, _ = open_anew(table, stores)
    tally.check(_same(opened, whole), f"{where}: the next store is another one")
    left = left_over(stores, opened.path.name)
    tally.check(not left, f"{where}: left over {', '.join(left)}")


def _same(store: GraphStore, other: GraphStore) -> bool:
    return bytes_of(store.path) == bytes_of(other.path)


DRILLS = (
    Drill(
        "store-killed",
        "SIGKILL at random times of a build: next store whole, same bytes, nothing left over",
        killed_at_random,
    ),
    Drill(
        "store-steps", "SIGKILL before each step on the file system of a build or import: the same", killed_at_each_step
    ),
    Drill("store-at-once", "2 and 4 builders at once: all succeed, one store, same bytes", builders_at_once),
    Drill("store-stale", "settings, crystals, schema changed: another store, never a stale one", changed_inputs),
)  # fmt: skip
