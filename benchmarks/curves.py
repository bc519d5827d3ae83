"""Accuracy against CPU time: validation MAE of the formation energy, Crystrata and the peers on the same crystals.

    python benchmarks/curves.py --data-file FILE [--peers PYTHON]... [--rows a,b]
    python benchmarks/curves.py --page

The crystals are the subset of `trunks.py`, whose trainings are Crystrata's lines here. Each peer learns the same
numbers, the standardised residual after the composition ridge, in the loop of peers/loop.py. `--peers` is as in
`speed.py`; `--rows` takes keys of peers. Every training is kept in results/curves.json as soon as it is over and not
repeated; `--page` makes curves.md and curves.png from the records alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from rich.console import Console

import trunks
from crystrata.errors import unknown_name
from crystrata.files import write_text
from crystrata.structures.crystal import Crystal
from crystrata.training.fit import build
from curves_page import Line, page, save_figure
from peers.contest import start
from peers.sample import Sample
from speed import as_sample

TRIALS = Path(__file__).parent / "results" / "curves.json"
OURS = {
    "e3nn": "Crystrata E3NN",
    "cgcnn channels=64 layers=3": "Crystrata CGCNN, 3 x 64",
    "plain_e3nn": "plain e3nn `uvu` (reference trunk)",
}
"""Encoders of trunks.json and what they are called here."""


@dataclass(frozen=True)
class Peer:
    """A peer and its trainings.

    Attributes:
        key: Short name.
        label: What it is, for the reader.
        module: Adapter in peers/.
        rates: Peak learning rates, one training each.
        epochs: Length of a training.
        options: Arguments of the adapter's `learner`.
    """

    key: str
    label: str
    module: str
    rates: tuple[float, ...]
    epochs: float
    options: Mapping[str, Any] = field(default_factory=dict)


PEERS = (
    Peer("nequip-s", "NequIP preset S", "nequip_peer", (1e-2, 3e-3, 1e-3), 20, {"preset": "S"}),
    Peer("cgcnn-textbook", "CGCNN textbook, 3 x 64", "cgcnn_original", (3e-3, 1e-3), 20,
         {"channels": 64, "layers": 3}),
    Peer("mace-64", "MACE 64x0e, l 2", "mace_peer", (1e-2,), 8, {"channels": 64, "l_max": 2}),
    Peer("tensornet", "matgl TensorNet, C 64", "matgl_peer", (1e-3,), 4, {"units": 64}),
)  # fmt: skip
"""The last two are dear: fewer epochs, and one rate, the default of MACE's own training; TensorNet fails at 0.003."""


def main() -> int:
    """Train what is not on record, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-file")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--peers", action="append", default=[], metavar="PYTHON")
    parser.add_argument("--rows", default="")
    parser.add_argument("--page", action="store_true", help="only make the page again")
    flags = parser.parse_args()
    if not flags.page:
        if flags.data_file is None:
            parser.error("--data-file is missing")
        _train_all(flags, chosen(flags.rows))
    lines = on_record()
    write_text(TRIALS.with_suffix(".md"), page(lines))
    save_figure(lines, TRIALS.with_suffix(".png"))
    return 0


def chosen(names: str) -> list[Peer]:
    """Return the peers that are named, all if none is.

    Raises:
        UsageError: A name is unknown.
    """
    wanted, known = [name for name in names.split(",") if name], [peer.key for peer in PEERS]
    for name in wanted:
        if name not in known:
            raise unknown_name("row", name, known)
    return [peer for peer in PEERS if not wanted or peer.key in wanted]


def on_record() -> list[Line]:
    """Return all trainings on record, Crystrata's first; those of trunks.json have their CPU time spread evenly."""
    trials = json.loads(trunks.TRIALS.read_text()) if trunks.TRIALS.is_file() else []
    ours = [
        Line(
            OURS[trial["encoder"]], trial["parameters"], trial["rate"], trial["epochs"], trial["val_mae"],
            [trial["cpu_seconds"] * (epoch + 1) / trial["epochs"] for epoch in range(trial["epochs"])],
            ours=trial["encoder"] != "plain_e3nn",
        )
        for trial in trials
        if trial["encoder"] in OURS
    ]  # fmt: skip
    return [*ours, *_peers_on_record()]


def _peers_on_record() -> list[Line]:
    return [Line(**trial) for trial in json.loads(TRIALS.read_text())] if TRIALS.is_file() else []


def _train_all(flags: argparse.Namespace, peers: Sequence[Peer]) -> None:
    interpreters = [sys.executable, *(os.path.abspath(peer) for peer in flags.peers)]  # a link makes an environment
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w", encoding="utf-8") as log:
        path = Path(folder) / "sample.npz"
        sample, train, scale = fixed_sample(flags.data_file, flags.data_dir)
        sample.save(path)
        plan = {"train": train, "batch": trunks.BATCH}
        for peer, rate in ((one, rate) for one in peers for rate in one.rates):
            done = _peers_on_record()
            if any((one.label, one.rate, one.epochs) == (peer.label, rate, peer.epochs) for one in done):
                continue
            line = _trained(peer, {**plan, "rate": rate, "epochs": peer.epochs}, scale, interpreters, path, log)
            lines = [*_peers_on_record(), line]
            write_text(TRIALS, "[\n" + ",\n".join(json.dumps(asdict(one)) for one in lines) + "\n]\n")


def fixed_sample(data_file: str, data_dir: str) -> tuple[Sample, int, float]:
    """Return the subset of trunks.py, how many of it are to train on, and the scale [eV/atom] of its labels.

    The training crystals come first, then those of the validation; labels are what Crystrata's head learns.
    """
    config = trunks.trial_config("e3nn", seed=0, data_file=data_file, data_dir=data_dir)
    data = trunks.fixed_subset(config)
    scaling = build(config, data, Console(quiet=True)).network.head(trunks.PROPERTY).scaling
    rows = np.concatenate([data.split.train, data.split.val])
    graphs, energy = data.dataset.graphs, torch.from_numpy(data.dataset.numbers([trunks.PROPERTY])[rows, 0])
    residual = scaling.standardise(energy, data.dataset.fractions(rows)).numpy()
    starts = graphs.atom_offsets
    crystals = [
        Crystal.create(
            str(row), graphs.lattice[row], graphs.numbers[starts[row] : starts[row + 1]],
            graphs.frac[starts[row] : starts[row + 1]],
        )
        for row in rows
    ]  # fmt: skip
    return as_sample(crystals, residual), len(data.split.train), float(scaling.scale)


def _trained(
    peer: Peer, plan: dict[str, Any], scale: float, interpreters: Sequence[str], sample: Path, log: TextIO
) -> Line:
    """Train in the first environment that has the peer.

    Raises:
        SystemExit: No environment has it, or the training failed.
    """
    arguments = ["peers.loop", peer.module, json.dumps(dict(peer.options)), json.dumps(plan), str(sample)]
    for interpreter in interpreters:
        line = Line(peer.label, 0, plan["rate"], plan["epochs"], [], [])
        with start(interpreter, arguments, sample.parent, log) as worker:
            for answer in map(json.loads, worker.stdout or ()):
                if "ready" in answer:
                    line.parameters, line.versions = answer["ready"]["parameters"], answer["ready"].get("versions", "")
                elif "mae" in answer:
                    line.mae.append(round(answer["mae"] * scale, 5))
                    line.seconds.append(round(answer["seconds"], 1))
                    print(peer.key, plan["rate"], answer["epoch"], line.mae[-1], line.seconds[-1], flush=True)
                elif "failed" in answer:
                    raise SystemExit(f"{peer.key}: {answer['failed']}\n{Path(log.name).read_text()[-3000:]}")
        if line.mae and worker.returncode == 0:
            return line
    raise SystemExit(f"{peer.key}: in none of the environments")


if __name__ == "__main__":
    sys.exit(main())
