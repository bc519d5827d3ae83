"""The log of recipes: one network for the nine properties on a subset, trained with settings that are to be compared.

    python benchmarks/recipes.py --data-file FILE --set weight_decay=0.05 [--set encoder.channels=96] [--seed 1]
    python benchmarks/recipes.py --data-file FILE --set dielectric.transform=identity
    python benchmarks/recipes.py --from RUN [--set dropout=0.1]
    python benchmarks/recipes.py --page

A trial is a training on 16,000 crystals of the union split, 24 epochs unless told otherwise. `--set` changes a field of
the configuration, a setting of the encoder (`encoder.NAME`) or a field of a property (`PROPERTY.NAME`). `--from` takes
a run directory as it lies, finished or not; what its configuration does not hold is added by `--set`. Every trial is
kept in benchmarks/results/recipes.json as soon as it is over, and recipes.md is made from it, for `--page` as well. A
trial that is on record is not trained again, and a directory that is read again replaces its record. Scores are of
validation: no crystal of a test is predicted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from crystrata.errors import CrystrataError, ModelError, UsageError, unknown_name
from crystrata.files import lock, read_json, write_text
from crystrata.jarvis_properties import NINE, PROPERTIES, get_property
from crystrata.runs.config import RunConfig, resolve_config
from crystrata.runs.directory import HISTORY
from crystrata.runs.find import saved_config
from crystrata.runs.manifest import read_manifest
from crystrata.training.fit import build, fit
from crystrata.training.stopping import StopRequest
from crystrata.workflows.prepare import prepare
from recipes_page import page

RECORD = Path(__file__).parent / "results" / "recipes.json"
TUNED = (
    "epochs", "batch_size", "lr", "accumulate", "schedule", "clip", "weight_decay", "ema", "learned_balance",
    "outlier_filter",
)  # fmt: skip
"""Fields of a configuration that every record holds; others are recorded where `--set` names them."""

Trial = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Put one trial on record and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--from", dest="run", type=Path, metavar="RUN", help="run directory to take for a trial")
    what.add_argument("--page", action="store_true", help="only write the page of what is on record")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="setting of the trial")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--split", default="union")
    parser.add_argument("--max-samples", type=int, default=16_000)
    parser.add_argument("--data-file", help="JARVIS-DFT release")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--record", type=Path, default=RECORD, help="where trials are kept, the page beside it")
    flags = parser.parse_args(arguments)
    try:
        settings = dict(_setting(item) for item in flags.set)
        if not flags.page:
            _keep(flags.record, read_trial(flags.run, settings) if flags.run else _trained(flags, settings))
        write_text(flags.record.with_suffix(".md"), page(on_record(flags.record)))
    except CrystrataError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def on_record(path: Path) -> list[Trial]:
    """Return the trials that are kept in a file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def read_trial(run: Path, settings: dict[str, Any]) -> Trial:
    """Return the record of a run directory.

    Args:
        run: The directory; the run need not have come to its end.
        settings: What its configuration does not hold.

    Raises:
        CrystrataError: It is no run directory, or no epoch is over.
    """
    facts = read_manifest(run)
    history = read_json(run / HISTORY, ModelError, "no epoch is over")
    return trial_record(saved_config(run), settings, facts, history, cpu_seconds=None)


def trial_record(
    config: RunConfig,
    settings: dict[str, Any],
    facts: dict[str, Any],
    history: list[dict[str, Any]],
    cpu_seconds: float | None,
) -> Trial:
    """Return what is kept of a training: no path and no test figure.

    Args:
        config: The configuration.
        settings: Settings that were changed or are told besides.
        facts: Materials and split, as in the manifest.
        history: Entries of the epochs that are over.
        cpu_seconds: CPU time of the training [s], or None if nobody took it.
    """
    best = min(history, key=lambda epoch: epoch["val_score"])
    return {
        **identity(config, settings, facts),
        "epochs": len(history),
        "cpu_seconds": cpu_seconds and round(cpu_seconds, 1),
        "seconds": round(sum(epoch["seconds"] for epoch in history), 1),
        "val_score": _rounded([epoch["val_score"] for epoch in history]),
        "best": {"epoch": best["epoch"], "val_mae": _figures(best)},
        "final": {"val_mae": _figures(history[-1])},
    }


def identity(config: RunConfig, settings: dict[str, Any], facts: dict[str, Any]) -> Trial:
    """Return the entries that tell a trial from another; for the arguments see `trial_record`."""
    encoder = {f"encoder.{name}": value for name, value in config.structure_settings.items()}
    heads = {f"head.{task.name}": task.kind for task in config.trained if task.kind != get_property(task.name).kind}
    own = {"encoder": config.encoder, **encoder, **heads, **{name: getattr(config, name) for name in TUNED}}
    return {
        "settings": {**own, **settings},
        "seed": config.seed,
        "crystals": facts["materials"]["train"],
        "split": f"{facts['split']['protocol']} {facts['split']['digest'][:12]}",
    }


def _figures(epoch: dict[str, Any]) -> dict[str, float]:
    return dict(zip(epoch["val_mae"], _rounded(list(epoch["val_mae"].values())), strict=True))


def _rounded(values: list[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _setting(text: str) -> tuple[str, Any]:
    name, given, value = text.partition("=")
    if not given:
        raise UsageError(f"--set takes NAME=VALUE, not {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _keep(path: Path, trial: Trial) -> None:
    """Put a trial on record, in the place of an earlier one with the same `KEY`."""
    with lock(path.with_suffix(".lock")):
        others = [one for one in on_record(path) if not _same(one, trial)]
        write_text(path, "[\n" + ",\n".join(json.dumps(one) for one in [*others, trial]) + "\n]\n")
    print(trial["settings"], min(trial["val_score"]), flush=True)


def _same(one: Trial, other: Trial) -> bool:
    return all(one[name] == other[name] for name in ("settings", "seed", "crystals", "split"))


def _trained(flags: argparse.Namespace, settings: dict[str, Any]) -> Trial:
    """Return a trial that is on record, or train it on one thread."""
    torch.set_num_threads(1)
    config, console = _config(flags, settings), Console(stderr=True)
    prepared = prepare(config, console)
    told = {name: value for name, value in settings.items() if not name.startswith("encoder.")}
    known = identity(config, told, prepared.facts)
    for trial in on_record(flags.record):
        if _same(trial, known):
            return trial
    with tempfile.TemporaryDirectory() as folder, StopRequest(console) as stop:
        started = time.process_time()
        fit(
            build(config, prepared.data, console), config, prepared.data, Path(folder), facts={},
            record=prepared.record(), console=console, stop=stop, resume=False,
        )  # fmt: skip
        history = json.loads((Path(folder) / HISTORY).read_text(encoding="utf-8"))
    return trial_record(config, told, prepared.facts, history, time.process_time() - started)


def _config(flags: argparse.Namespace, settings: dict[str, Any]) -> RunConfig:
    """Return the run of a trial; changed fields of properties are put into the table of properties."""
    values: dict[str, Any] = {"epochs": 24, "batch_size": 32, "lr": 3e-3}
    encoder: dict[str, Any] = {}
    for name, value in settings.items():
        owner, dot, field = name.partition(".")
        if not dot:
            values[_known(name, [one.name for one in fields(RunConfig)])] = value
        elif owner == "encoder":
            encoder[field] = value
        else:
            record = PROPERTIES[_known(owner, list(PROPERTIES))]
            PROPERTIES[owner] = replace(record, **{_known(field, [one.name for one in fields(record)]): value})
    config = resolve_config(
        "e3nn", "std", properties=NINE, split=flags.split, max_samples=flags.max_samples, seed=flags.seed,
        patience=values["epochs"], data_file=flags.data_file, data_dir=flags.data_dir, **values,
    )  # fmt: skip
    return replace(config, structure_settings={**config.structure_settings, **encoder})


def _known(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise unknown_name("setting", name, names)
    return name


if __name__ == "__main__":
    sys.exit(main())
