"""Downloads from a rude host: never a poisoned cache, and the next call recovers."""

from __future__ import annotations

import random
import urllib.request
from functools import partial
from pathlib import Path

from crystrata.errors import DataError, StorageError
from crystrata.sources.jarvis import Release
from crystrata.sources.jarvis.cached import obtain
from crystrata.sources.jarvis.download import Transport
from drills.children import KILLED
from drills.drill import Drill, Tally
from drills.kept_files import damage
from drills.manners import MANNERS
from drills.rude_host import Host, records, serving
from drills.yard import yard

FILE = "drill.json.zip"
KEPT = {FILE, f"{FILE}.json", f"{FILE}.lock"}
_BODIES: list[bytes] = []


def rude_hosts(quick: bool, scratch: Path, tally: Tally) -> None:
    """Meet each manner, alone and in random sequences, with the MD5 pinned, listed by the host, or unknown."""
    chance = random.Random(0)
    rude = [name for name in MANNERS if name != "honest"]
    sequences = [[name] for name in rude] + [chance.choices(rude, k=chance.randint(2, 5)) for _ in range(400)]
    with serving(_host()) as host:
        for number, manners in enumerate(sequences[: len(rude) + 3] if quick else sequences):
            known = chance.choice(["pinned", "listed"])
            if chance.random() < 0.2 and not any("tampered" in one or "version" in one for one in manners):
                known = "unknown"
            host.manners.clear()  # a call may succeed before all have come up
            host.manners.extend(manners)
            host.listed = known == "listed"
            _until_it_comes(
                host, scratch / str(number), known == "pinned", f"{' + '.join(manners)}, MD5 {known}", tally
            )


def _until_it_comes(host: Host, folder: Path, pinned: bool, where: str, tally: Tally) -> None:
    """Call until the host has been rude as often as it was told to; the next call must succeed."""
    last = False
    while not last:
        last = not host.manners
        try:
            fetch(host.release(pinned=pinned), folder, timeout=1)
            break
        except DataError as error:
            tally.check("\n" not in str(error) and not last, f"{where}: does not recover: {error}")
            host.manners = host.manners.__class__(one for one in host.manners if one != "moved in circles")
        except Exception as error:
            tally.check(False, f"{where}: no error of ours: {error!r}")
        tally.check(not (folder / FILE).exists(), f"{where}: something entered the cache")
    _check_kept(host, folder, where, tally)


def killed_downloads(quick: bool, scratch: Path, tally: Tally) -> None:
    """Kill downloads at random times and before each step on the file system; the next call goes on."""
    chance = random.Random(0)
    with serving(_host()) as host:
        host.slow, children, gone_on = True, yard(warm), 0
        for number in range(5 if quick else 200):
            release, folder = host.release(pinned=number % 2 == 0), scratch / f"at random {number}"
            for _ in range(chance.randint(1, 3)):
                ending = children.run(partial(fetch, release, folder), kill_after=chance.uniform(0, 0.15))
                _check_next(host, ending.code, ending.said, folder, f"killed {number}", tally)
            host.ranges.clear()
            fetch(release, folder)
            gone_on += any(host.ranges)
            _check_kept(host, folder, f"after killed {number}", tally)
        tally.check(quick or gone_on > 0, "no killed download went on from where it was")
        host.slow, code, step = False, KILLED, 0
        while code == KILLED:
            step += 4 if quick else 1
            release, folder, where = host.release(pinned=True), scratch / str(step), f"killed at step {step}"
            ending = children.run(partial(fetch, release, folder), kill_at=step)
            code = ending.code
            _check_next(host, code, ending.said, folder, where, tally)
            fetch(release, folder)
            _check_kept(host, folder, f"after {where}", tally)
        tally.check(step > 8, f"only {step} steps were seen")


def _check_next(host: Host, code: int, said: object, folder: Path, where: str, tally: Tally) -> None:
    tally.check(code in (0, KILLED), f"{where}: ended with {code}: {said}")
    file = folder / FILE
    tally.check(not file.exists() or file.read_bytes() == host.body, f"{where}: something else entered the cache")


def downloaders_at_once(quick: bool, scratch: Path, tally: Tally) -> None:
    """Start 2 and 4 downloads of one file at once: all succeed, and it is asked for once."""
    with serving(_host()) as host:
        host.slow, children = True, yard(warm)
        for number in range(2 if quick else 40):
            many, folder, where = (2, 4)[number % 2], scratch / str(number), f"at once, {number}"
            host.ranges.clear()
            for ending in children.run_all([partial(fetch, host.release(pinned=True), folder)] * many):
                tally.check(ending.code == 0, f"{many} {where}: ended with {ending.code}: {ending.said}")
            tally.check(len(host.ranges) == 1, f"{many} {where}: {len(host.ranges)} requests")
            _check_kept(host, folder, f"{many} {where}", tally)


def damaged_downloads(quick: bool, scratch: Path, tally: Tally) -> None:
    """Damage what the cache holds, and fill the disk: refused in one line, and the next call recovers."""
    chance, folder = random.Random(0), scratch / "cache"
    with serving(_host()) as host:
        release = host.release(pinned=False)
        for _ in range(8 if quick else 200):
            fetch(release, folder)
            file = folder / chance.choice([FILE, f"{FILE}.json"])
            where = f"{file.name}: {damage(file, chance)}"
            try:
                fetch(release, folder)
            except DataError as error:
                tally.check(str(folder / FILE) in str(error) and "\n" not in str(error), f"{where}: {error}")
                fetch(release, folder)
            (folder / f"{FILE}.damaged").unlink(missing_ok=True)
            _check_kept(host, folder, where, tally)
        for number in range(2 if quick else 30):
            limit, small = chance.randrange(len(host.body)), scratch / str(number)
            ending = yard(warm).run(partial(fetch, release, small), largest_file=limit)
            where = f"no file longer than {limit} bytes"
            refused = ending.code == StorageError.exit_code and "\n" not in ending.said
            tally.check(refused and not (small / FILE).exists(), f"{where}: ended with {ending.code}: {ending.said}")
            fetch(release, small)
            _check_kept(host, small, where, tally)


def fetch(release: Release, folder: Path, timeout: float = 20) -> None:
    """Get the file with two attempts a call."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    transport = Transport(direct, timeout=timeout, attempts=2, pause=0, max_bytes=2 << 20)
    obtain(release, cache_dir=folder, transport=transport)


def warm() -> None:
    """Nothing more than what this module imports is needed."""


def _host() -> Host:
    if not _BODIES:
        _BODIES.extend((records(0), records(1)))
    return Host(*_BODIES, MANNERS)


def _check_kept(host: Host, folder: Path, where: str, tally: Tally) -> None:
    """The cache holds the published file, its receipt, the lock, and nothing else."""
    tally.check((folder / FILE).read_bytes() == host.body, f"{where}: another file was kept")
    left = sorted({path.name for path in folder.iterdir()} - KEPT)
    tally.check(not left, f"{where}: left over {', '.join(left)}")


DRILLS = (
    Drill(
        "download-rude",
        "cuts, stalls, error pages, lies, tampering, redirects: no poisoned cache, recovers",
        rude_hosts,
    ),
    Drill(
        "download-killed",
        "SIGKILL at random times and each step: the next call goes on, nothing left over",
        killed_downloads,
    ),
    Drill("download-at-once", "2 and 4 downloads at once: all succeed, one request", downloaders_at_once),
    Drill("download-damaged", "damage in the cache, a full disk: one line, the next call recovers", damaged_downloads),
)  # fmt: skip
