"""The table of drills."""

from __future__ import annotations

from drills import checkpoints, numbers, paths, resume
from drills.bad_disks import full_disks, locked_folders
from drills.downloads import damaged_downloads, downloaders_at_once, killed_downloads, rude_hosts
from drills.drill import Drill
from drills.kept_files import damaged_files, damaged_portable, killed_writers
from drills.stores import builders_at_once, changed_inputs, killed_at_each_step, killed_at_random

DRILLS: dict[str, Drill] = {
    drill.name: drill
    for drill in (
        *resume.DRILLS,
        *checkpoints.DRILLS,
        *numbers.DRILLS,
        paths.DRILL,
        Drill("store-killed", "SIGKILL at random times of a build: next store whole, same bytes, nothing left over",
              killed_at_random),
        Drill("store-steps", "SIGKILL before each step on the file system of a build or import: the same",
              killed_at_each_step),
        Drill("store-at-once", "2 and 4 builders at once: all succeed, one store, same bytes", builders_at_once),
        Drill("store-stale", "settings, crystals, schema changed: another store, never a stale one", changed_inputs),
        Drill("kept-damaged", "flipped bits, cuts in stores, hulls, prototypes: found, warned of, made anew as before",
              damaged_files),
        Drill("kept-portable", "the same in a portable store: refused in one line, or harmless", damaged_portable),
        Drill("kept-killed", "SIGKILL before each step of writing hulls, prototypes, portable stores: no trace left",
              killed_writers),
        Drill("kept-full-disk", "a full disk: one line, exit code 1, nothing half left", full_disks),
        Drill("kept-locked", "a folder without permission: the same, and what is there can be read", locked_folders),
        Drill("download-rude", "cuts, stalls, error pages, lies, tampering, redirects: no poisoned cache, recovers",
              rude_hosts),
        Drill("download-killed", "SIGKILL at random times and each step: the next call goes on, nothing left over",
              killed_downloads),
        Drill("download-at-once", "2 and 4 downloads at once: all succeed, one request", downloaders_at_once),
        Drill("download-damaged", "damage in the cache, a full disk: one line, the next call recovers",
              damaged_downloads),
    )
}  # fmt: skip
"""Name -> drill, in the order of the report."""
