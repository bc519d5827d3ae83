"""Drills of training: killed or asked to stop at random times, a run ends with the bits of one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path

import torch

from crystrata.runs.directory import CHECKPOINT, MANIFEST
from crystrata.runs.manifest import read_manifest
from drills.drill import Drill, Tally
from drills.runs import KINDS, Bench

_MOST_SECONDS = 300


def _kills(quick: bool, scratch: Path, tally: Tally) -> None:
    luck = random.Random(1)
    for kind in ("cgcnn",) if quick else KINDS:
        bench = Bench(kind, scratch, scratch / "data")
        for number in range(1 if quick else 3):
            name, cuts = f"killed_{number}", 0
            process = bench.begin(name)
            while cuts < (2 if quick else 4):
                if not _wait_for_steps(process, bench, name, luck.randint(1, 12)):
                    break
                time.sleep(luck.uniform(0, 0.05))
                process.kill()
                process.join()
                cuts += 1
                process = bench.begin(name, *_again(bench, name))
            process.join(_MOST_SECONDS)
            difference = bench.difference(name)
            tally.check(process.exitcode == 0 and not difference, f"{kind}, {cuts} kills: {difference}")
            _no_litter(bench, name, tally)


def _signals(quick: bool, scratch: Path, tally: Tally) -> None:
    luck = random.Random(2)
    for kind in ("cgcnn",) if quick else KINDS:
        bench = Bench(kind, scratch, scratch / "data")
        for number in range(2 if quick else 4):
            signum = (signal.SIGTERM, signal.SIGINT)[number % 2]
            name = f"stopped_{number}"
            process = bench.begin(name)
            _wait_for_steps(process, bench, name, luck.randint(1, 20))
            time.sleep(luck.uniform(0, 0.05))
            _send(process, signum)
            process.join(_MOST_SECONDS)
            _stopped_well(bench, name, process.exitcode, signum, tally)
            process = bench.begin(name, *_again(bench, name))
            process.join(_MOST_SECONDS)
            difference = bench.difference(name)
            tally.check(process.exitcode == 0 and not difference, f"{kind} after {signum.name}: {difference}")


def _stopped_well(bench: Bench, name: str, code: int | None, signum: signal.Signals, tally: Tally) -> None:
    status = read_manifest(bench.run(name))["status"]
    if code == 0:  # the signal came after the last step
        tally.check(status == "completed", f"exit code 0 but {status}")
        return
    tally.check(code == 128 + signum, f"exit code {code} after {signum.name}")
    tally.check(status == "interrupted", f"status {status} after {signum.name}")
    checkpoint = bench.run(name) / CHECKPOINT
    kept = torch.load(checkpoint, weights_only=True)["global_step"] if checkpoint.is_file() else 0
    lost = bench.steps(name) - kept
    tally.check(lost <= 1, f"{lost} steps lost by {signum.name}")


def _requeue(quick: bool, scratch: Path, tally: Tally) -> None:
    luck = random.Random(3)
    scheduler = scratch / "bin" / "scontrol"
    scheduler.parent.mkdir()
    scheduler.write_text(f'#!/bin/sh\necho "$@" >> {scratch}/asked\n')
    scheduler.chmod(scheduler.stat().st_mode | stat.S_IEXEC)
    job = {"SLURM_JOB_ID": "42", "PATH": f"{scheduler.parent}:{os.environ['PATH']}"}
    bench = Bench("cgcnn", scratch, scratch / "data")
    for number in range(1 if quick else 3):
        name = f"requeued_{number}"
        process = bench.begin(name, environment=job)
        for count in (1, 2):
            _wait_for_steps(process, bench, name, luck.randint(1, 8))
            _send(process, signal.SIGUSR1)
            process.join(_MOST_SECONDS)
            tally.check(process.exitcode == 128 + signal.SIGUSR1, f"exit code {process.exitcode}")
            process = bench.begin(name, environment={**job, "SLURM_RESTART_COUNT": str(count)})
        process.join(_MOST_SECONDS)
        difference = bench.difference(name)
        tally.check(process.exitcode == 0 and not difference, f"after two requeues: {difference}")
        asked = (scratch / "asked").read_text().splitlines()
        tally.check(asked == ["requeue 42"] * (2 * (number + 1)), f"the scheduler was asked {asked}")


def _wait_for_steps(process: object, bench: Bench, name: str, steps: int) -> bool:
    """Wait until the process has carried out some steps; return whether it still runs."""
    deadline = time.monotonic() + _MOST_SECONDS
    while process.is_alive() and time.monotonic() < deadline:  # type: ignore[attr-defined]
        if bench.steps(name) >= steps:
            return True
        time.sleep(0.002)
    return False


def _send(process: object, signum: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it came to its end before
        os.kill(process.pid, signum)  # type: ignore[attr-defined]


def _again(bench: Bench, name: str) -> tuple[str, ...]:
    """Return the flags that continue a run, or begin it where it was killed before its directory was made."""
    runs = list((bench.scratch / name).glob(f"*/run_*/{MANIFEST}"))
    return ("--resume", str(runs[0].parent)) if runs else ()


def _no_litter(bench: Bench, name: str, tally: Tally) -> None:
    left = [path.name for path in bench.run(name).rglob("*.part")]
    tally.check(not left, f"left over: {', '.join(left)}")


DRILLS = (
    Drill("kills", "killed at random times and continued, a run ends with the same bits", _kills),
    Drill("signals", "SIGTERM, SIGINT: exit 143, 130, at most one step lost, the same bits when continued", _signals),
    Drill("requeue", "a SLURM job that is requeued goes on by itself, with the same bits", _requeue),
)
