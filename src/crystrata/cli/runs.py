"""Verbs about runs: `crystrata runs` lists them, `compare` sets several side by side, `info` says what a model is, and
`resume` continues a run.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crystrata.cli.parsing import Parser, add_models_dir, command_line, run_verb, terminal
from crystrata.errors import ModelError, UsageError, nearest
from crystrata.runs.config import RunConfig
from crystrata.runs.registry import REGISTRY, RunEntry, read_registry
from crystrata.settings import add_flag, checked_flags

_SHOWN = 20


def list_runs(arguments: Sequence[str] | None = None, program: str = "crystrata runs") -> int:
    """Parse the flags and list runs; return the exit code."""
    parser = Parser(
        program,
        "List the runs of a models folder, the newest first; with --property those that predict it, the best first.",
        ("--property band_gap", "--family tasks_e3nn --all"),
    )
    add_models_dir(parser)
    parser.add_argument("--property", metavar="NAME", help="runs of this property or task, by their test error")
    parser.add_argument("--family", metavar="NAME", help="runs of this family, such as multitask_std_e3nn")
    parser.add_argument("--all", action="store_true", help=f"all runs (default: the first {_SHOWN})")
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _list(flags))


def _list(flags: argparse.Namespace) -> int:
    entries = list(reversed(read_registry(flags.models_dir)))
    if not entries:
        raise ModelError(f"no run under {flags.models_dir}: its {REGISTRY} lists none")
    if flags.family:
        entries = _chosen(entries, "family", flags.family, lambda entry: [entry.family])
    if flags.property:
        entries = _chosen(entries, "property", flags.property, lambda entry: entry.properties)
        entries.sort(key=lambda entry: entry.test_mae.get(flags.property, float("inf")))
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from crystrata.reports.tables import cell_text

    shown = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    shown.add_column("run", overflow="fold")
    shown.add_column("tasks", overflow="fold")
    for title in ("trained on", "val score", *([f"test {flags.property}"] if flags.property else ()), "hours"):
        shown.add_column(title, justify="right")
    for entry in entries if flags.all else entries[:_SHOWN]:
        tasks = f"{len(entry.properties)} tasks" if len(entry.properties) > 3 else ", ".join(entry.properties)
        figures = [entry.train_crystals, entry.val_score]
        figures += [entry.test_mae.get(flags.property)] if flags.property else []
        name = entry.path if entry.completed else f"{entry.path} ({entry.status})"
        shown.add_row(name, tasks, *(cell_text(value, 3) for value in (*figures, entry.hours)))
    console = terminal()
    console.print(shown)
    if not flags.all and len(entries) > _SHOWN:
        console.print(f"{len(entries) - _SHOWN} more: --all")
    return 0


def _chosen(entries: list[RunEntry], what: str, name: str, of: Any) -> list[RunEntry]:
    found = [entry for entry in entries if name in of(entry)]
    if not found:
        known = {one for entry in entries for one in of(entry)}
        raise UsageError(f"no run of the {what} {name!r}{nearest(name, known)}")
    return found


def compare(arguments: Sequence[str] | None = None, program: str = "crystrata compare") -> int:
    """Parse the flags and print the errors of several runs side by side; return the exit code."""
    parser = Parser(
        program,
        "Print the errors of several runs on their test parts side by side, and in which settings they differ.",
        ("models/tasks_e3nn/run_a models/tasks_e3nn/run_b", "RUN RUN RUN"),
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="directories of completed runs")
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _compare([Path(run) for run in flags.runs]))


def _compare(runs: Sequence[Path]) -> int:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from crystrata.files import read_json
    from crystrata.reports.tables import cell_text
    from crystrata.runs.directory import RESULTS
    from crystrata.runs.find import require_run, saved_config
    from crystrata.runs.manifest import read_manifest

    results = [read_json(require_run(run) / RESULTS, ModelError, "has the run completed?") for run in runs]
    splits = {read_manifest(run)["split"]["digest"] for run in runs}
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, title="Test part", title_justify="left")
    shown.add_column("task", overflow="fold")
    for place, _ in enumerate(runs, start=1):
        shown.add_column(str(place), justify="right", no_wrap=True)
    for name in dict.fromkeys(name for one in results for name in one["tasks"]):
        figures = [_figure(one["tasks"].get(name)) for one in results]
        unit = next((one["tasks"][name]["unit"] for one in results if name in one["tasks"]), "")
        shown.add_row(f"{name} [{unit}]" if unit else name, *(cell_text(value, 3) for value in figures))
    console = terminal()
    console.print(shown)
    for place, run in enumerate(runs, start=1):
        console.print(f"{place}  {run}", soft_wrap=True)
    if len(splits) > 1:
        console.print("The runs are tested on different materials: their errors do not compare.", style="yellow")
    first = saved_config(runs[0])
    for place, run in enumerate(runs[1:], start=2):
        differing = first.differences(saved_config(run))
        console.print(f"1 -> {place}: {'; '.join(differing) or 'the same settings'}", soft_wrap=True)
    return 0


def _figure(task: Mapping[str, Any] | None) -> float | None:
    test = (task or {}).get("test") or {}
    return next((test[key] for key in ("mae", "accuracy", "mse") if key in test), None)


def resume(arguments: Sequence[str] | None = None, program: str = "crystrata resume") -> int:
    """Parse the flags and continue a run; return the exit code."""
    parser = Parser(
        program,
        "Continue a run from its last checkpoint, bit for bit, with its settings; or evaluate a finished one again.",
        ("models/multitask_std_e3nn/run_a", "models/tasks_e3nn/run_b --epochs 200"),
    )
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    for name in ("epochs", "patience", "device", "workers"):
        add_flag(parser, RunConfig, name)
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _resume(flags, command_line(program, arguments)))


def _resume(flags: argparse.Namespace, command: list[str]) -> int:
    from dataclasses import replace

    from crystrata.runs.find import require_epochs, require_run, saved_config

    path = require_run(Path(flags.run))
    config = replace(saved_config(path), **checked_flags(flags, RunConfig, ("epochs", "patience", "device", "workers")))
    require_epochs(path, config)
    from crystrata.workflows.run import resume as continue_run

    continue_run(path, config, command, terminal())
    return 0


def info(arguments: Sequence[str] | None = None, program: str = "crystrata info") -> int:
    """Parse the flags and say what a model is; return the exit code."""
    parser = Parser(
        program,
        "Say what a model predicts, what it was trained on and what it knows of its errors. Without a name it is the "
        "shipped model.",
        ("jarvis-nine", "models/tasks_e3nn/run_a"),
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a shipped model, best, latest, a run or a file")
    add_models_dir(parser)
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _info(flags))


def _info(flags: argparse.Namespace) -> int:
    from crystrata.networks.ensemble import Ensemble
    from crystrata.networks.network import count_parameters
    from crystrata.prediction.trained_model import load_model
    from crystrata.runs.find import find_model

    model = load_model(find_model(flags.models_dir, flags.model), "cpu")
    network, facts = model.network, model.facts
    members = network.members if isinstance(network, Ensemble) else [network]
    reads = {"structures": network.reads_crystals, "formulas": network.reads_compositions}
    bounded = model.calibration.intervals.properties if model.calibration else ()
    source = facts["source"]
    lines = {
        "model": str(model.path),
        "reads": " and ".join(words for words, there in reads.items() if there),
        "predicts": ", ".join(task.column for task in model.tasks),
        "intervals": ", ".join(task.name for task in model.tasks if task.name in bounded)
        or "none: it has not been calibrated",
        "networks": f"{len(members)}, {count_parameters(network):,} parameters together",
        "trained on": f"{source['name']}{' (DEMO: labels are not DFT)' if source['demo'] else ''}",
        "elements": f"{len(facts['elements'])}" if "elements" in facts else "not known",
        "materials": f"{len(model.record.ids):,}" if model.record else "not recorded",
        "validation": f"MAE/MAD {facts['val_score']:.4f}" if facts.get("val_score") is not None else "not recorded",
    }
    console = terminal()
    for name, text in lines.items():
        console.print(f"{name:11} {text}", soft_wrap=True)
    return 0
