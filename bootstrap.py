"""Set up Crystrata and run it, with nothing but Python: `python bootstrap.py {run,test,check,setup} [arguments]`.

run    the phase-2 suite; without arguments a smoke run of all nine properties on the embedded demo crystals
test   the tests (arguments go to pytest)
check  ruff and mypy
setup  only make the environment, `.venv`
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (this file must parse on older ones, back to 3.6, for this to be seen)
    sys.exit("Crystrata needs Python 3.11 or newer; this is Python " + sys.version.split()[0])

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "crystrata-setup"
DEMO = ["--algorithm", "e3nn", "--level", "smoke", "--all-properties", "--source", "demo"]


def interpreter(venv: Path, windows: bool = os.name == "nt") -> Path:
    """Return the Python of an environment."""
    return venv / "Scripts" / "python.exe" if windows else venv / "bin" / "python"


def stamp(root: Path, version: tuple[int, ...]) -> str:
    """Return the digest of all that an environment depends on: requirements, Python, and where the sources lie."""
    parts = [(root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256(b"\0".join([*parts, repr(version).encode(), str(root).encode()])).hexdigest()


def forget_half_installed(venv: Path) -> None:
    """Make pip install again what it was killed in: the record of the installer is among the last files it writes."""
    for pattern in ("lib/python*/site-packages/*.dist-info", "Lib/site-packages/*.dist-info"):
        for info in venv.glob(pattern):
            if not (info / "INSTALLER").exists():
                shutil.rmtree(info)


def set_up() -> None:
    """Make or complete `.venv`; does nothing where the stamp says that it is as wanted."""
    wanted = stamp(ROOT, sys.version_info[:2])
    if STAMP.is_file() and STAMP.read_text() == wanted:
        return
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit("this Python has no venv module; on Debian or Ubuntu: apt install python3-venv")
    python = str(interpreter(VENV))
    print(f"Setting up {VENV} (2 GB, a few minutes, once)", file=sys.stderr, flush=True)
    same_version = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    usable = os.path.exists(python) and subprocess.call([python, "-c", same_version]) == 0
    forget_half_installed(VENV)
    install = "-m pip install --no-input --disable-pip-version-check -c constraints.txt -e .[dev]".split()
    steps = [] if usable else [[sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV)]]
    steps += [[python, "-m", "ensurepip", "--upgrade"], [python, *install]]
    for step in steps:
        if subprocess.call(step, cwd=ROOT, stdout=sys.stderr.fileno()):
            sys.exit("the set-up failed: see above; the next call goes on from here")
    STAMP.write_text(wanted)


def become(*command: str) -> int:
    """Run the environment's Python in place of this process, so that signals and the exit code are its own."""
    arguments = [str(interpreter(VENV)), *command]
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(arguments[0], arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the child, which stops in its own time
    return subprocess.call(arguments)


def main(arguments: list[str]) -> int:
    """Set up, then do what the first argument says; return the exit code."""
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if verb not in ("run", "test", "check", "setup"):
        print(__doc__.strip(), file=sys.stdout if verb in ("-h", "--help") else sys.stderr)
        return 0 if verb in ("-h", "--help") else 2
    set_up()
    if verb == "run":  # in the caller's folder: file names in the arguments are meant from there
        return become(str(ROOT / "scripts" / "phase2_multitask" / "run_phase2.py"), *(rest or DEMO))
    os.chdir(ROOT)
    if verb == "test":
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes with one thread each, not two with all
        return become("-m", "pytest", *(rest or ["-q", "-n", "2"]))
    checks = (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]) if verb == "check" else ()
    results = [subprocess.call([str(interpreter(VENV)), "-m", *check]) for check in checks]  # all, even after a failure
    return int(any(results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
