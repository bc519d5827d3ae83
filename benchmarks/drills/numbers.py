"""Drills of numbers and memory: what is not finite, and steps that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crystrata.cli.train import main
from crystrata.datasets.dataset import CrystalPropertyDataset, MaterialDataset
from crystrata.errors import TrainingError
from crystrata.networks.network import Network
from crystrata.runs.directory import BEST, CHECKPOINT, HISTORY
from crystrata.training import bad_steps as guard
from crystrata.training.checkpoints import read_checkpoint
from drills.drill import Drill, Tally

_FLAGS = (
    "--algorithm", "cgcnn", "--level", "smoke", "--max-samples", "120", "--batch-size", "8", "--epochs", "2",
    "--source", "demo", "--device", "cpu", "--properties", "formation_energy,band_gap",
)  # fmt: skip


def _train(scratch: Path, *flags: str, name: str) -> tuple[int, Path]:
    where = ("--data-dir", str(scratch / "data"), "--models-dir", str(scratch / name))
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        code = main([*_FLAGS, *where, *flags])
    (run,) = (scratch / name).glob("*/run_*")
    return code, run


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _is_finite(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return bool(torch.isfinite(value).all()) if value.is_floating_point() else True
    if isinstance(value, dict):
        return all(_is_finite(part) for part in value.values())
    return all(_is_finite(part) for part in value) if isinstance(value, list | tuple) else True


def _poison(rows: set[int], what: str) -> Callable[..., Any]:
    """Return `MaterialDataset.batches` with bad crystals: a label, or the place of an atom, is not a number."""
    original = MaterialDataset.batches

    def batches(self: MaterialDataset, *arguments: Any) -> Any:
        found = original(self, *arguments)
        for batch in found:
            for place, row in enumerate(batch.rows.tolist()):
                if row in rows and what == "label":
                    batch.targets["formation_energy"].values[place] = torch.inf
                elif row in rows:
                    first = int(batch.crystals.atom_counts[:place].sum())
                    edge = int((batch.crystals.centre >= first).nonzero()[0])
                    batch.crystals.vector[edge] = torch.nan
        return found

    return batches


def _not_finite(quick: bool, scratch: Path, tally: Tally) -> None:
    _, run = _train(scratch, name="sound")
    train_ids = json.loads((run / "splits.json").read_text())["train"]
    ids = _ids(scratch)
    rows_of = {identity: row for row, identity in enumerate(ids)}
    luck = np.random.default_rng(6)
    for number, what in enumerate(("label", "atom") * (1 if quick else 4)):
        chosen = luck.choice(train_ids, size=2, replace=False).tolist()
        with _replaced(MaterialDataset, "batches", _poison({rows_of[one] for one in chosen}, what)):
            code, run = _train(scratch, name=f"bad_{number}")
        tally.check(code == 0, f"exit code {code}")
        for name in (BEST, CHECKPOINT):
            tally.check(
                _is_finite(read_checkpoint(run / name)["state_dict" if name == CHECKPOINT else "state"]),
                f"{name} has a weight that is not finite",
            )
        history = json.loads((run / HISTORY).read_text())
        named = {one for record in history for step in record["bad_steps"] for one in step["ids"]}
        tally.check(named == set(chosen), f"named {sorted(named)}, bad were {sorted(chosen)}")
    with _replaced(MaterialDataset, "batches", _poison(set(range(len(ids))), "label")):
        code, run = _train(scratch, name="all_bad")
    tally.check(code == TrainingError.exit_code, f"nothing but bad steps: exit code {code}")
    tally.check(not (run / BEST).exists(), f"weights of nothing but {guard.MOST_IN_A_ROW} bad steps")


def _ids(scratch: Path) -> list[str]:
    from crystrata.sources.demo import open_demo

    return CrystalPropertyDataset(open_demo(), scratch / "data" / "stores").ids


def _memory(quick: bool, scratch: Path, tally: Tally) -> None:
    original = Network.loss_sums

    def with_room_for(most: int) -> Callable[..., Any]:
        def loss_sums(self: Network, batch: Any) -> Any:
            result = original(self, batch)
            if len(batch) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return result

        return loss_sums

    _, whole = _train(scratch, name="whole")
    wanted = read_checkpoint(whole / CHECKPOINT)["state_dict"]
    for most in (3,) if quick else (7, 4, 3, 2, 1):
        with _replaced(Network, "loss_sums", with_room_for(most)):
            code, run = _train(scratch, name=f"room_{most}")
        found = read_checkpoint(run / CHECKPOINT)["state_dict"]
        close = all(torch.allclose(found[key], wanted[key], rtol=1e-3, atol=1e-4) for key in wanted)
        tally.check(code == 0 and close, f"room for {most} crystals: exit code {code}, other weights")
    with _replaced(Network, "loss_sums", with_room_for(0)):
        tally.check(_raises(torch.OutOfMemoryError, scratch, "no_room"), "one crystal too large went by in silence")

    def broken(*_: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with _replaced(Network, "loss_sums", broken):
        tally.check(_raises(RuntimeError, scratch, "broken"), "another error was taken for want of memory")


def _raises(kind: type[Exception], scratch: Path, name: str) -> bool:
    try:
        _train(scratch, name=name)
    except kind:
        return True
    return False


DRILLS = (
    Drill(
        "not-finite",
        "a bad label or atom never reaches the weights, its crystal is named, five in a row stop",
        _not_finite,
    ),
    Drill(
        "memory", "where memory runs out, micro-batches are halved: the same weights; other errors are raised", _memory
    ),
)
