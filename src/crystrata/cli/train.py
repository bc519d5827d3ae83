"""`crystrata train` and the scripts of the phase-2 suite: one set of flags, one run function."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from crystrata.cli.parsing import Parser, command_line, run_verb, terminal
from crystrata.errors import UsageError, unknown_name
from crystrata.jarvis_properties import GROUPS, NINE, PROPERTIES
from crystrata.presets import ALGORITHMS, COMPETITION, LEVELS, MODES, PROFILES, SIZE_ALIASES
from crystrata.runs.config import RunConfig, resolve_config
from crystrata.settings import add_flag, checked_flags
from crystrata.sources import DEFAULT_RELEASE

_KNOWN = f"{', '.join(NINE)}; for the leaderboard alone: {', '.join(name for name in PROPERTIES if name not in NINE)}"

OVERRIDES = ("epochs", "lr", "optimizer", "weight_decay", "batch_size", "max_samples", "patience")
DATA = ("source", "data_file", "release", "data_dir", "split", "splits_file", "outlier_z")
RUN = ("start", "strict_start", "seed", "device", "workers", "top_k", "models_dir", "run_id", "time_budget")
_DEFAULTS = {"source": "auto", "release": DEFAULT_RELEASE, "data_dir": "data", "models_dir": "models", "seed": 42,
             "device": "auto", "workers": 0, "top_k": 3, "split": "random", "outlier_z": 8.0}  # fmt: skip
_METAVARS = {"data_file": "FILE", "splits_file": "FILE", "data_dir": "DIR", "models_dir": "DIR", "start": "MODEL",
             "time_budget": "HOURS", "outlier_z": "Z", "top_k": "K"}  # fmt: skip

_EXAMPLES = ("--level lite --source demo", "--level pro --all-properties --data-file dft_3d.parquet")
_OF_SPECIALISTS = ("--property band_gap --source demo", "--level pro --property dielectric")


@dataclass(frozen=True)
class EntryPoint:
    """What a script fixes or presets of the common flags.

    The algorithm is a flag where it is None; `levels` and `profiles` are those that the script serves; with
    `single_task` it trains specialists of one property (`--property`).
    """

    program: str = "run_phase2.py"
    algorithm: str | None = None
    level: str = "std"
    levels: tuple[str, ...] = LEVELS
    profiles: tuple[str, ...] = PROFILES
    single_task: bool = False


def main(arguments: Sequence[str] | None = None, entry: EntryPoint | None = None) -> int:
    """Parse the flags, resolve the preset and run; return the exit code. `--config FILE` reads the run from a file."""
    entry = entry or EntryPoint()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if any(word.split("=")[0] == "--table" for word in given):
        from crystrata.cli import own_data

        return own_data.main(given, entry.program)
    if any(word.split("=")[0] == "--config" for word in given):
        from crystrata.cli import trainer

        return trainer.main(["fit", *given], entry.program)
    flags = build_parser(entry).parse_args(given)
    return run_verb(lambda: _run(flags, entry, command_line(entry.program, arguments)))


def build_parser(entry: EntryPoint) -> Parser:
    """Return the parser of an entry point."""
    examples = _OF_SPECIALISTS if entry.single_task else _EXAMPLES
    parser = Parser(entry.program, "Train networks for the properties of crystals.", examples)
    what = parser.add_argument_group("what to train")
    if entry.algorithm is None:
        what.add_argument("--algorithm", default="e3nn", metavar=_choices(ALGORITHMS), help="track (default: e3nn)")
    what.add_argument("--level", metavar=_choices(entry.levels), help=f"preset (default: {entry.level})")
    if entry.profiles:
        what.add_argument(
            "--profile", metavar=_choices(entry.profiles), help="one-purpose preset; takes precedence over --level"
        )
    if COMPETITION in entry.profiles:
        what.add_argument(
            "--competition", dest="profile", action="store_const", const=COMPETITION, help="--profile competition"
        )
    if entry.single_task:
        what.add_argument("--property", required=True, metavar="NAME", help=f"one of {_KNOWN}")
    else:
        what.add_argument("--all-properties", action="store_true", help="all nine properties")
        what.add_argument("--properties", metavar="A,B", help=f"some of {_KNOWN}")
        what.add_argument("--property-group", metavar=_choices(GROUPS), help="a named group (default: core4)")
    what.add_argument("--config", metavar="FILE", help="YAML file of the run, in place of these flags")
    what.add_argument("--table", metavar="FILE", help="data of your own, in place of these flags: see --table --help")
    _add_overrides(parser.add_argument_group("overrides of the preset"))
    data = parser.add_argument_group("data")
    for name in DATA:
        _add(data, name)
    data.add_argument(
        "--no-filter", dest="outlier_filter", action="store_false", default=None,
        help="train on every label (as it is, labels that cannot be right are masked in the training part)",
    )  # fmt: skip
    _add_run(parser.add_argument_group("run"))
    return parser


def _add(group: argparse._ArgumentGroup, name: str, *spellings: str) -> None:
    add_flag(group, RunConfig, name, *spellings, default=_DEFAULTS.get(name), metavar=_METAVARS.get(name))


def _add_overrides(group: argparse._ArgumentGroup) -> None:
    for name in OVERRIDES:
        _add(group, name)
    group.add_argument("--size", "--preset", dest="size", metavar=_choices(SIZE_ALIASES), help="model size")
    _add(group, "structure", "--encoder")
    group.add_argument("--head", action="append", metavar="PROPERTY=KIND", help="another kind of head for a property")
    group.add_argument("--angles", metavar="{none,cached,density}", help="angle features on the edges")


def _add_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--resume", nargs="?", const="", metavar="RUN", help="continue the newest (or named) run")
    for name in RUN:
        _add(group, name)
    _add(group, "compiled", "--compile")
    add_flag(group, RunConfig, "keep_last", "--keep-last-k", default=3, metavar="K")
    group.add_argument("--estimate", action="store_true", help="time some steps, print hours and memory, and stop")
    group.add_argument(
        "--dry-run", nargs="?", const="fields", choices=("fields", "yaml"), metavar="yaml",
        help="print the resolved configuration and stop; with the word yaml as `--config` takes it",
    )  # fmt: skip


def config_of(flags: argparse.Namespace, entry: EntryPoint) -> RunConfig:
    """Return the configuration that flags ask for; unknown names and contradictions are a UsageError."""
    names = (*OVERRIDES, *DATA, *RUN, "compiled", "keep_last", "outlier_filter")
    overrides = checked_flags(flags, RunConfig, names)
    if flags.resume is not None and flags.start:
        raise UsageError("--resume and --start contradict each other: a run that is continued has its weights")
    if flags.resume is not None and flags.run_id:
        raise UsageError("--resume and --run-id contradict each other: name the run to continue after --resume")
    return resolve_config(
        entry.algorithm or flags.algorithm, _mode(flags, entry), properties=_properties(flags, entry), size=flags.size,
        structure=flags.structure, angles=flags.angles, heads=_heads(flags.head or []), single_task=entry.single_task,
        **overrides,
    )  # fmt: skip


def _heads(given: Sequence[str]) -> dict[str, str]:
    """Return property -> kind of head from flags such as `dielectric=scalar`; the configuration checks the kinds."""
    heads = {}
    for pair in given:
        name, _, kind = (word.strip() for word in pair.partition("="))
        if not name or not kind:
            raise UsageError(f"--head {pair}: write the property and its kind of head, as in --head dielectric=scalar")
        if name not in PROPERTIES:
            raise unknown_name("property in --head", name, PROPERTIES)
        heads[name] = kind
    return heads


def _mode(flags: argparse.Namespace, entry: EntryPoint) -> str:
    level = flags.level or entry.level
    profile = getattr(flags, "profile", None) or (level if level in entry.profiles else None)
    if profile is not None:
        if profile not in entry.profiles:
            raise unknown_name("profile", profile, entry.profiles)
        if flags.level not in (None, profile):
            print(f"notice: the profile {profile} takes precedence over --level {flags.level}", file=sys.stderr)
        return str(profile)
    if level not in entry.levels:
        raise unknown_name("level", level, MODES if entry.levels == LEVELS else entry.levels)
    return level


def _named_properties(flags: argparse.Namespace) -> list[str]:
    """Return the flags that name properties."""
    names = ("all_properties", "properties", "property_group")
    return [name for name in names if getattr(flags, name, None) not in (None, False)]


def _properties(flags: argparse.Namespace, entry: EntryPoint) -> list[str]:
    if entry.single_task:
        return [flags.property]
    given = _named_properties(flags)
    if len(given) > 1:
        listed = " and ".join("--" + name.replace("_", "-") for name in given)
        raise UsageError(f"{listed} contradict each other: give one")
    if flags.all_properties:
        return list(GROUPS["all9"])
    if flags.properties is not None:
        return flags.properties.split(",")
    group = flags.property_group or "core4"
    if group not in GROUPS:
        raise unknown_name("property group", group, GROUPS)
    return list(GROUPS[group])


def _run(flags: argparse.Namespace, entry: EntryPoint, command: list[str]) -> int:
    config = config_of(flags, entry)
    if flags.dry_run:
        from crystrata.workflows.prepare import require_valid_source

        require_valid_source(config)
        print(describe(config) if flags.dry_run == "fields" else as_yaml(config), end="")
        return 0
    from crystrata.runs.find import find_model, find_resumable, run_of_job

    if config.start:
        from pathlib import Path

        config = replace(config, start=str(find_model(Path(config.models_dir), config.start)))
    earlier = None if flags.estimate else flags.resume if flags.resume is not None else run_of_job(config)
    if earlier is not None:  # refused before anything large is imported
        any_tasks = not entry.single_task and not _named_properties(flags)
        path, config = find_resumable(config, str(earlier) or None, any_tasks=any_tasks)
    from crystrata.workflows.run import estimate_run, resume, run

    if flags.estimate:
        estimate_run(config, terminal())
    elif earlier is not None:
        resume(path, config, command, terminal())
    else:
        run(config, command, terminal())
    return 0


def describe(config: RunConfig) -> str:
    """Return a resolved configuration as YAML."""
    import yaml

    names = {"family": config.family, "properties": list(config.properties)}
    return yaml.safe_dump({**names, **config.as_dict()}, sort_keys=False)


def as_yaml(config: RunConfig) -> str:
    """Return a resolved configuration as the YAML that `--config` takes."""
    import yaml

    from crystrata.workflows.documents.experiment import document_of

    return yaml.safe_dump(document_of(config), sort_keys=False)


def _choices(names: object) -> str:
    return "{" + ",".join(names) + "}"  # type: ignore[arg-type]
