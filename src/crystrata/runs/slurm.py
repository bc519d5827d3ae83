"""SLURM: which job this is, and how it comes back when its time is over."""

from __future__ import annotations

import os
import signal
import subprocess

REQUEUE_SIGNAL: int | None = getattr(signal, "SIGUSR1", None)
"""What `sbatch --signal=USR1@90` sends before the time of a job is over; systems without it have no SLURM."""


def job_id() -> str | None:
    """Return the id of this SLURM job, `<array>_<task>` in an array, or None outside of SLURM."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array is not None:
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def was_requeued() -> bool:
    """Return whether this job has run before."""
    return job_id() is not None and int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def requeue() -> str:
    """Ask SLURM to run this job again; return a line that says what came of it."""
    job = str(job_id())
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"job {job} could not be requeued: {error}; start it again with --resume"
    if done.returncode:
        return f"job {job} could not be requeued: {done.stderr.strip()}; start it again with --resume"
    return f"job {job} is requeued and will go on from here"
