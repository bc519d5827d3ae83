"""Odd paths and surroundings: folders and files with names that systems allow and programs forget about."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import crystrata
from crystrata.cli import predict, store, train
from crystrata.files import sha256_of
from crystrata.runs.find import find_model
from drills.drill import Drill, NotTried, Tally

SILICON = Path(__file__).parents[2] / "examples" / "cifs" / "silicon.cif"
FOLDERS = (
    "Proben äöü ß", "晶体 結晶", "💎", "100% #1 %20 ?x=1&y", "[red] [b :smile:", "it's; $HOME & 'co'", "-rf", "a.b..c",
    "/".join(["deep" * 20] * 4),
)  # fmt: skip
"""Names of folders; the last one makes every path longer than 300 characters."""
FILES = (
    b"plain", "Sïlïzium äöüß".encode(), "硅 晶体".encode(), "💎".encode(), b"100%", b"a#1", b"[bold]b", b"[red",
    b":smile:", b"c;d,e\"q'", b"\xff\xfe", b"new\nline", b"\x1b[31m", b"=1+1", b"-o", b" lead", b"trail ", b"%20",
    b"x" * 251, "ä".encode() * 125,
)  # fmt: skip
"""Names of CIFs as bytes; Linux allows any, and so they come out of archives and from shares."""
SURROUNDINGS: dict[str, dict[str, str]] = {
    "locale C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "terminal in cp1252": {"PYTHONIOENCODING": "cp1252"},
    "no home": {"HOME": os.devnull, "USERPROFILE": os.devnull, "XDG_CACHE_HOME": os.devnull},
}
DRY_RUNS = (["train", "--dry-run"], ["--help"], ["train", "--help"], ["matrix", "--dry-run"])
"""Commands that print much and do nothing."""


def run(quick: bool, scratch: Path, tally: Tally) -> None:
    """Train, predict, export and import in odd folders; predict odd names in odd surroundings."""
    folders = [scratch / name for name in (["/".join(FOLDERS)] if quick else FOLDERS)]
    made = [folder for folder in folders if _allowed(folder)]
    if not made:
        raise NotTried("this system allows none of these names")
    for folder in made:
        _trains(folder, tally)
        if not quick:
            _store_travels(folder, tally)
    run_dir = find_model(made[-1] / "models", "latest")
    cifs = _write_cifs(scratch / "cifs")
    _predicts(run_dir, cifs, made[0] / "a table.csv", tally)
    together: dict[str, str] = {}
    for name, environment in SURROUNDINGS.items():
        together |= environment
        if not quick:
            _predicts_in(name, environment, run_dir, cifs, tally)
    _predicts_in("all surroundings", together, run_dir, cifs, tally)
    _reader_has_gone(DRY_RUNS[:1] if quick else DRY_RUNS, tally)


def _allowed(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True)
    except (OSError, UnicodeEncodeError):  # this system has no such names
        return False
    return True


def _call(main: object, *flags: object) -> tuple[int, str]:
    """Call a command in this process; return its exit code and what it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main([str(flag) for flag in flags])  # type: ignore[operator]
        except Exception as error:  # a crash is what this drill looks for: it is counted, the others go on
            return -1, f"{type(error).__name__}: {error}"
    return code, said.getvalue()


def _trains(folder: Path, tally: Tally) -> None:
    flags = "--algorithm cgcnn --level lite --source demo --epochs 1 --max-samples 60 --device cpu".split()
    code, said = _call(train.main, *flags, "--models-dir", folder / "models", "--data-dir", folder / "data")
    tally.check(code == 0, f"training in {folder.name!r} ends with {code}: {said[-300:]}")
    tally.check(str(folder) in said, f"training in {folder.name!r} does not name its folder as it is: {said[-300:]}")
    latest = find_model(folder / "models", "latest")
    tally.check((latest / "best.pt").is_file(), f"the registry in {folder.name!r} does not lead to the run: {latest}")


def _store_travels(folder: Path, tally: Tally) -> None:
    portable, data, there = folder / "a [store", folder / "data", folder / "there"
    for flags in (["--source", "demo", "--data-dir", data, "--export"], ["--data-dir", there, "--import"]):
        code, said = _call(store.main, *flags, portable)
        tally.check(code == 0, f"a store in {folder.name!r}: {flags[-1]} ends with {code}: {said[-300:]}")
    digests = [
        {path.name: sha256_of(path) for path in sorted((where / "stores").rglob("*.bin"))} for where in (data, there)
    ]
    tally.check(bool(digests[0]) and digests[0] == digests[1], f"the store in {folder.name!r} has changed on its way")


def _write_cifs(folder: Path) -> dict[Path, bytes]:
    """Write silicon under every odd name; return those that the system allows."""
    folder.mkdir()
    written = {}
    for name in FILES:
        path = Path(os.fsdecode(os.fsencode(folder) + os.sep.encode() + name + b".cif"))
        with contextlib.suppress(OSError):
            path.write_bytes(SILICON.read_bytes())
            written[path] = name
    return written


def _predicts(run_dir: Path, cifs: dict[Path, bytes], table: Path, tally: Tally) -> None:
    code, said = _call(predict.main, "--cif", *cifs, "--run", run_dir, "--output", table)
    tally.check(code == 0, f"predicting odd names ends with {code}: {said[-300:]}")
    _check_table(table, list(cifs.values()), "odd names", tally)


def _check_table(table: Path, names: list[bytes], where: str, tally: Tally) -> None:
    """Every name has its row, and silicon is silicon under all of them."""
    rows = pd.read_csv(table, keep_default_na=False) if table.is_file() else pd.DataFrame()
    tally.check(len(rows) == len(names), f"{where}: {len(rows)} rows for {len(names)} files")
    for name, row in zip(names, rows.to_dict("records"), strict=False):
        words = f"{where}: {name!r}: {row['error'] or row}"
        tally.check(row["error"] == "" and row["band_gap [eV]"] == rows["band_gap [eV]"][0], words)
        try:
            tally.check(
                name.decode() in (row["id"], row["id"].removeprefix("'")) or not name.decode().isprintable(), words
            )
        except UnicodeDecodeError:
            tally.check(row["id"].isascii(), words)


def _child(command: list[str], environment: dict[str, str], **settings: object) -> subprocess.CompletedProcess[bytes]:
    package = str(Path(crystrata.__file__).parents[1])
    full = {**os.environ, "PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run([sys.executable, "-m", "crystrata", *command], env=full, capture_output=True, **settings)  # type: ignore[call-overload]


def _predicts_in(name: str, environment: dict[str, str], run_dir: Path, cifs: dict[Path, bytes], tally: Tally) -> None:
    """Predict in another process; the source tree stays as it is."""
    source = Path(crystrata.__file__).parent
    before, folder = set(_files_of(source)), next(iter(cifs)).parent
    table = folder.parent / f"{len(environment)} odd.csv"
    done = _child(["predict", "--dir", str(folder), "--run", str(run_dir), "--output", str(table)], environment)
    words = done.stderr[-400:].decode(errors="replace")
    tally.check(
        done.returncode == 0 and b"Traceback" not in done.stderr, f"{name}: exit code {done.returncode}: {words}"
    )
    _check_table(table, sorted(cifs.values(), key=lambda stem: stem + b".cif"), name, tally)
    tally.check(set(_files_of(source)) == before, f"{name}: the source tree has other files than before")


def _files_of(source: Path) -> Iterator[Path]:
    return (path for path in source.rglob("*") if "__pycache__" not in path.parts)


def _reader_has_gone(commands: tuple[list[str], ...], tally: Tally) -> None:
    """`crystrata ... | head` ends in silence."""
    for command in commands:
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as nobody:
            package = {"PYTHONPATH": str(Path(crystrata.__file__).parents[1])}
            done = subprocess.run(
                [sys.executable, "-m", "crystrata", *command],
                env={**os.environ, **package}, stdout=nobody, stderr=subprocess.PIPE,
            )  # fmt: skip
        tally.check(done.stderr == b"", f"{' '.join(command)} into a closed pipe says {done.stderr[-300:].decode()}")


DRILLS = (
    Drill(
        "paths", "any name of a folder or file that the system allows, any locale, no home, no reader: same result", run
    ),
)
