"""Build sdist and wheel, install the wheel in a new environment, and try it away from the sources.

python .ci/try_wheel.py        needs the package `build`; leaves both files in dist/
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
TRAIN = "--algorithm e3nn --level lite --source demo --epochs 1 --workers 2 --models-dir models --data-dir data".split()


def main() -> int:
    """Carry all of it out; the exit code is 0 only if every step worked."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        build(DIST)  # the wheel is built from the sdist
        build(place / "tree", "--wheel")
        (wheel,), (other,) = newest(DIST), newest(place / "tree")
        if members(wheel) != members(other):
            sys.exit(f"the sdist builds another wheel than the tree: {members(wheel) ^ members(other)}")
        meant = sources(ROOT / "src") | shipped(ROOT / "models" / "pretrained")
        if wrong := meant ^ {name for name, _ in members(wheel) if ".dist-info/" not in name}:
            sys.exit(f"the wheel does not hold exactly the package: {sorted(wrong)}")
        python, command = install(wheel, place / "environment")
        work = place / "elsewhere"
        work.mkdir()
        for step in (
            [command, "--help"],
            [command, "train", *TRAIN],
            [python, "-m", "crystrata", "predict", "--dir", ROOT / "examples" / "cifs", "--run", "latest"],
        ):
            call(*step, cwd=work)
        rows = (work / "phase2_preds.csv").read_text(encoding="utf-8").splitlines()
        if len(rows) != 1 + len(list((ROOT / "examples" / "cifs").glob("*.cif"))):
            sys.exit(f"{len(rows)} lines came out of the prediction")
    print(f"tried: {wheel.name}")
    return 0


def build(folder: Path, *flags: str) -> None:
    """Build into a folder."""
    call(sys.executable, "-m", "build", *flags, "--outdir", folder, ROOT, cwd=ROOT)


def newest(folder: Path) -> list[Path]:
    """Return the wheel that was built last."""
    return sorted(folder.glob("*.whl"), key=lambda path: path.stat().st_mtime)[-1:]


def sources(folder: Path) -> set[str]:
    """Return the files of the package as they are named in a wheel."""
    files = (path for path in (folder / "crystrata").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in files}


def shipped(folder: Path) -> set[str]:
    """Return the files of the shipped models as they are named in a wheel."""
    return {
        f"crystrata/pretrained/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*") if path.is_file()
    }


def members(wheel: Path) -> set[tuple[str, int]]:
    """Return name and checksum of every file in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {(member.filename, member.CRC) for member in archive.infolist()}


def install(wheel: Path, environment: Path) -> tuple[Path, Path]:
    """Install a wheel with the tested versions; return the environment's Python and its `crystrata`."""
    venv.create(environment, with_pip=True)
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    python = programs / ("python.exe" if os.name == "nt" else "python")
    call(python, "-m", "pip", "install", "-c", ROOT / "constraints.txt", wheel, cwd=environment)
    return python, programs / ("crystrata.exe" if os.name == "nt" else "crystrata")


def call(*command: object, cwd: Path) -> None:
    """Run a step and end with its exit code where it fails."""
    words = [str(word) for word in command]
    print("+", *words, flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if code := subprocess.call(words, cwd=cwd, env=environment):
        sys.exit(f"{' '.join(words)}: exit code {code}")


if __name__ == "__main__":
    sys.exit(main())
