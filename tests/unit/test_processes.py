"""Work spread over processes: results in order, few parts taken ahead, a killed worker named, none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crystrata.errors import DataError
from crystrata.parallel import map_ordered


def doubled(number: int) -> int:
    time.sleep(0.02 * (number % 3 == 0))  # later parts are done before earlier ones
    return 2 * number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order_and_few_parts_are_taken_ahead(workers: int) -> None:
    taken: list[int] = []

    def parts() -> Iterator[int]:
        for number in range(30):
            taken.append(number)
            yield number

    for number, result in enumerate(map_ordered(doubled, parts(), workers)):
        assert result == 2 * number
        assert len(taken) <= number + 1 + 2 * workers
    assert len(taken) == 30


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_worker_is_one_line() -> None:
    with pytest.raises(DataError, match=r"a worker process was killed.* Start again with fewer --workers"):
        list(map_ordered(die, [1], 1))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups of this kind")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "sleeping.py").write_text(
        "import time\nfrom crystrata.parallel import map_ordered\n"
        "def work(_):\n    print('at work', flush=True)\n    time.sleep(60)\n"
        "if __name__ == '__main__':\n    list(map_ordered(work, [1], 1))\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    with subprocess.Popen(
        [sys.executable, tmp_path / "sleeping.py"], env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        assert parent.stdout.readline() == "at work\n"
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not _gone(parent.pid):
            time.sleep(0.02)
        gone = _gone(parent.pid)
        if not gone:
            os.killpg(parent.pid, signal.SIGKILL)
        assert gone


def _gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False
