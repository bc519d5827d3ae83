"""`crystrata train` and the scripts of the phase-2 suite: one set of flags, one run function."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crystrata.cli.parsing import Parser, command_line, run_verb, terminal
from crystrata.errors import UsageError, unknown_name
from crystrata.presets import ALGORITHMS, COMPETITION, LEVELS, MODES, PROFILES, SIZE_ALIASES
from crystrata.properties import GROUPS, NINE, PROPERTIES
from crystrata.runs.config import RunConfig, resolve_config
from crystrata.sources.names import DEFAULT_RELEASE, SOURCES

_KNOWN = f"{', '.join(NINE)}; for the leaderboard alone: {', '.join(name for name in PROPERTIES if name not in NINE)}"


@dataclass(frozen=True)
class Door:
    """What a script fixes or presets of the common flags.

    Attributes:
        program: Name shown in help and errors.
        algorithm: Fixed algorithm, or None where it is a flag.
        level: Default level.
        levels: Levels the script serves.
        profiles: Profiles the script serves.
        single_task: Whether it trains single-property specialists (`--property`).
    """

    program: str = "run_phase2.py"
    algorithm: str | None = None
    level: str = "std"
    levels: tuple[str, ...] = LEVELS
    profiles: tuple[str, ...] = PROFILES
    single_task: bool = False


def main(arguments: Sequence[str] | None = None, door: Door | None = None) -> int:
    """Parse the flags, resolve the preset and run; return the exit code."""
    door = door or Door()
    parser = build_parser(door)
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _run(flags, door, command_line(door.program, arguments)))


def build_parser(door: Door) -> Parser:
    """Return the parser of a door."""
    parser = Parser(prog=door.program, description="Train crystal-property networks on JARVIS-DFT.")
    what = parser.add_argument_group("what to train")
    if door.algorithm is None:
        what.add_argument("--algorithm", default="e3nn", metavar=_choices(ALGORITHMS), help="track")
    what.add_argument("--level", default=None, metavar=_choices(door.levels), help=f"preset (default: {door.level})")
    if door.profiles:
        what.add_argument("--profile", metavar=_choices(door.profiles), help="one-purpose preset; wins over --level")
    if COMPETITION in door.profiles:
        what.add_argument(
            "--competition", dest="profile", action="store_const", const=COMPETITION, help="--profile competition"
        )
    if door.single_task:
        what.add_argument("--property", required=True, metavar="NAME", help=f"one of {_KNOWN}")
    else:
        what.add_argument("--all-properties", action="store_true", help="all nine properties")
        what.add_argument("--properties", metavar="A,B", help=f"some of {_KNOWN}")
        what.add_argument("--property-group", metavar=_choices(GROUPS), help="a named group (default: core4)")
    _add_overrides(parser.add_argument_group("overrides of the preset"))
    _add_data(parser.add_argument_group("data"))
    _add_run(parser.add_argument_group("run"))
    return parser


def _add_overrides(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, metavar="N", help="passes over the training part")
    group.add_argument("--lr", type=float, metavar="X", help="peak learning rate")
    group.add_argument("--weight-decay", type=float, metavar="X", help="of AdamW")
    group.add_argument("--batch-size", type=int, metavar="N", help="crystals per micro-batch")
    group.add_argument("--preset", metavar=_choices(SIZE_ALIASES), help="model size")
    group.add_argument("--encoder", metavar="NAME", help="encoder; plain_e3nn is the reference trunk")
    group.add_argument("--head", action="append", metavar="PROPERTY=KIND", help="another kind of head for a property")
    group.add_argument("--angles", metavar="{none,cached,density}", help="angle features on the edges")
    group.add_argument("--max-samples", type=int, metavar="N", help="crystals in all parts together")
    group.add_argument("--patience", type=int, metavar="N", help="epochs without a better score before stopping")


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--source", default="auto", metavar=_choices(SOURCES),
        help="auto takes --data-file, $CRYSTRATA_JARVIS, the download, or the demo crystals without a network",
    )  # fmt: skip
    group.add_argument("--data-file", metavar="FILE", help="local dft_3d file: json, json.gz, json.zip or parquet")
    group.add_argument("--release", default=DEFAULT_RELEASE, metavar="NAME", help="official release to download")
    group.add_argument("--data-dir", default="data", metavar="DIR", help="downloads, graph stores and hulls")
    group.add_argument(
        "--split", default="random", metavar="NAME",
        help="random, official:<benchmark>, union, union-strict, formation-energy, by-chemical-system, by-prototype, "
        "refit or union-refit",
    )  # fmt: skip
    group.add_argument(
        "--splits-file", metavar="FILE",
        help="official ids (default: leaderboard_splits.parquet beside the data file, or the leaderboard's download)",
    )  # fmt: skip
    group.add_argument(
        "--no-filter", dest="outlier_filter", action="store_false", default=None,
        help="train on every label (as it is, labels that cannot be right are masked in the training part)",
    )  # fmt: skip
    group.add_argument("--outlier-z", type=float, default=8.0, metavar="Z", help="robust score of an outlier")


def _add_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--resume", nargs="?", const="", metavar="RUN", help="continue the newest (or named) run")
    group.add_argument(
        "--start", metavar="RUN", help="run directory or weights file whose encoder and heads the training starts from"
    )
    group.add_argument("--seed", type=int, default=42, help="of split, order and weights")
    group.add_argument("--device", default="auto", metavar="{auto,cpu,cuda}", help="where to compute")
    group.add_argument(
        "--compile", dest="compiled", action="store_true",
        help="compile the encoder first (a minute); pays in runs of an hour or more",
    )  # fmt: skip
    group.add_argument("--workers", type=int, default=0, metavar="N", help="processes that load and build graphs")
    group.add_argument(
        "--keep-last-k", dest="keep_last", type=int, default=3, metavar="K", help="checkpoints that are kept"
    )
    group.add_argument("--top-k", type=int, default=3, metavar="K", help="epochs whose weights are kept, the best")
    group.add_argument("--models-dir", default="models", metavar="DIR", help="folder of all runs")
    group.add_argument("--run-id", metavar="NAME", help="name of the run directory (default: time and a short id)")
    group.add_argument(
        "--time-budget", type=float, metavar="HOURS", help="fit the number of epochs, and with it the schedule, to this"
    )
    group.add_argument("--estimate", action="store_true", help="time some steps, print hours and memory, and stop")
    group.add_argument(
        "--dry-run", nargs="?", const="fields", choices=("fields", "yaml"), metavar="yaml",
        help="print the resolved configuration and stop; with the word yaml as `crystrata-trainer` takes it",
    )  # fmt: skip


def config_of(flags: argparse.Namespace, door: Door) -> RunConfig:
    """Return the configuration that flags ask for.

    Raises:
        UsageError: A name is unknown or flags contradict each other.
    """
    overrides: dict[str, Any] = {
        name: getattr(flags, name)
        for name in ("epochs", "lr", "weight_decay", "batch_size", "max_samples", "patience", "seed", "device",
                     "compiled", "workers", "keep_last", "top_k", "time_budget", "source",
                     "data_file", "start", "release", "split", "splits_file", "data_dir", "models_dir", "run_id",
                     "outlier_filter", "outlier_z")
    }  # fmt: skip
    if flags.resume is not None and flags.start:
        raise UsageError("--resume and --start contradict each other: a run that is continued has its weights")
    if flags.resume is not None and flags.run_id:
        raise UsageError("--resume and --run-id contradict each other: name the run to continue after --resume")
    config = resolve_config(
        door.algorithm or flags.algorithm,
        _mode(flags, door),
        properties=_properties(flags, door),
        preset=flags.preset,
        encoder=flags.encoder,
        angles=flags.angles,
        heads=_heads(flags.head or []),
        single_task=door.single_task,
        **overrides,
    )
    from crystrata.workflows.documents.crystal import require_sound_source

    require_sound_source(config)
    return config


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


def _mode(flags: argparse.Namespace, door: Door) -> str:
    level = flags.level or door.level
    profile = getattr(flags, "profile", None) or (level if level in door.profiles else None)
    if profile is not None:
        if profile not in door.profiles:
            raise unknown_name("profile", profile, door.profiles)
        if flags.level not in (None, profile):
            print(f"notice: the profile {profile} wins over --level {flags.level}", file=sys.stderr)
        return str(profile)
    if level not in door.levels:
        raise unknown_name("level", level, MODES if door.levels == LEVELS else door.levels)
    return level


def _properties(flags: argparse.Namespace, door: Door) -> list[str]:
    if door.single_task:
        return [flags.property]
    given = [
        name for name in ("all_properties", "properties", "property_group") if getattr(flags, name) not in (None, False)
    ]
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


def _run(flags: argparse.Namespace, door: Door, command: list[str]) -> int:
    config = config_of(flags, door)
    if flags.dry_run:
        print(describe(config) if flags.dry_run == "fields" else as_yaml(config), end="")
        return 0
    from crystrata.workflows.resumable import find_resumable, run_of_job
    from crystrata.workflows.tier_run import estimate_tier, resume_tier, run_tier

    console = terminal()
    if flags.estimate:
        estimate_tier(config, console)
        return 0
    earlier = flags.resume if flags.resume is not None else run_of_job(config)
    if earlier is not None:
        run, config = find_resumable(config, str(earlier) or None)
        resume_tier(run, config, command, console)
    else:
        run_tier(config, command, console)
    return 0


def describe(config: RunConfig) -> str:
    """Return a resolved configuration as YAML."""
    import yaml

    return yaml.safe_dump({"family": config.family, **config.as_dict()}, sort_keys=False)


def as_yaml(config: RunConfig) -> str:
    """Return a resolved configuration as the YAML that `crystrata-trainer fit --config` takes."""
    import yaml

    from crystrata.workflows.documents.experiment import document_of

    return yaml.safe_dump(document_of(config), sort_keys=False)


def _choices(names: object) -> str:
    return "{" + ",".join(names) + "}"  # type: ignore[arg-type]
