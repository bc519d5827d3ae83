"""`crystrata design`: compositions with desired properties, and candidate crystals for them; `crystrata design study`:
several searches for each scenario, compared in tables and figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from crystrata.cli.parsing import Parser, add_models_dir, names_of, run_verb, terminal
from crystrata.design import METHODS
from crystrata.elements import INERT_OR_UNSTABLE, SYMBOLS
from crystrata.errors import UsageError, nearest
from crystrata.runs.find import DEFAULT_COMPOSITIONS
from crystrata.sources import DEFAULT_RELEASE, SOURCES

_STARTS, _LEAST_AMOUNT = 40, 0.02


def build_parser(program: str = "crystrata design") -> Parser:
    """Return the parser of the verb."""
    parser = Parser(
        prog=program,
        description="Find compositions with desired properties by gradient through a trained model of compositions, "
        "and candidate crystals by substitution into known structures. `crystrata design study` compares searches.",
        examples=(
            '--objective "band_gap=1.4" --objective "formation_energy<-0.5" --max-elements 3',
            '--objective "bulk_modulus>300" --without As,Cd,Hg,Tl,Pb --structures 3',
        ),
    )
    parser.add_argument(
        "--model", "--run", default=DEFAULT_COMPOSITIONS, dest="model", metavar="MODEL",
        help="model of compositions: a completed run, or the name or folder of a shipped model",
    )  # fmt: skip
    parser.add_argument(
        "--objective", "--want", required=True, action="append", dest="objectives", metavar="OBJECTIVE",
        help="TASK=VALUE, TASK<VALUE, TASK>VALUE, TASK=min, TASK=max or TASK=CLASS; may be repeated",
    )  # fmt: skip
    _add_constraints(parser.add_argument_group("constraints"))
    _add_search(parser.add_argument_group("search"))
    _add_structures(parser.add_argument_group("structures"))
    parser.add_argument("--output", default="design", metavar="DIR", help="folder for tables and structures")
    parser.add_argument("--device", default="auto", metavar="{auto,cpu,cuda}", help="where to compute")
    return parser


def main(arguments: Sequence[str] | None = None, program: str = "crystrata design") -> int:
    """Parse the flags and search, or hand `study` on to its own command; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["study"]:
        return study(given[1:], f"{program} study")
    flags = build_parser(program).parse_args(given)
    return run_verb(lambda: _run(flags))


def _add_constraints(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--elements", metavar="A,B,...", help="elements that may occur")
    group.add_argument(
        "--without", metavar="A,B,...",
        help="elements to exclude, besides noble gases and those without a stable isotope, which --elements can allow",
    )  # fmt: skip
    group.add_argument("--max-elements", type=int, metavar="N", help="largest number of elements")
    group.add_argument("--fix", metavar="A=X,...", help="fixed atomic fractions, such as O=0.5")
    group.add_argument(
        "--freeze-elements", "--hold", dest="freeze_elements", metavar="A,B,...",
        help="elements frozen at their amount in the seed",
    )  # fmt: skip
    group.add_argument(
        "--min-amount",
        type=float,
        metavar="X",
        help="smallest atomic fraction of an element that occurs (default: 0.02)",
    )
    group.add_argument("--max-atoms", type=int, default=12, metavar="N", help="largest number of atoms in a formula")


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--method", default="composition", choices=METHODS, help="what the gradient optimises")
    group.add_argument("--seeds", metavar="FORMULA,...", help="compositions to start from (default: random starts)")
    group.add_argument("--starts", type=int, metavar="N", help="number of random starts, without --seeds (default: 40)")
    group.add_argument("--steps", type=int, metavar="N", help="steps of each search (default: that of the method)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random starts")
    group.add_argument("--seed-blend", type=float, default=0.95, metavar="X", help="share of the seed at the start")
    group.add_argument(
        "--diversity", type=float, default=1.0, metavar="X", help="below 1, favours simpler compositions"
    )


def _add_structures(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--structures", type=int, default=0, metavar="N", help="candidate crystals for each formula")
    group.add_argument("--formulas", type=int, default=3, metavar="N", help="number of formulas to find crystals for")
    group.add_argument(
        "--structure-model", metavar="MODEL",
        help="model of crystals that evaluates the candidates (default: as in `crystrata predict`)",
    )  # fmt: skip
    add_models_dir(group)
    group.add_argument("--source", default="auto", choices=SOURCES, help="where known crystals come from")
    group.add_argument("--data-file", metavar="FILE", help="local dft_3d file")
    group.add_argument("--release", default=DEFAULT_RELEASE, metavar="NAME", help="official release to download")
    group.add_argument("--data-dir", default="data", metavar="DIR", help="folder for downloads")


def _run(flags: argparse.Namespace) -> int:
    from crystrata.design.objectives import ObjectiveFunction
    from crystrata.design.trained import TrainedCompositions
    from crystrata.prediction.trained_model import load_model
    from crystrata.runs.find import find_model
    from crystrata.sources.opening import open_source
    from crystrata.workflows.design_run import run_design

    console, request = terminal(), _request(flags)
    trained = TrainedCompositions.load(find_model(flags.models_dir, flags.model), flags.device)
    ObjectiveFunction(request.objectives, trained.model.network)  # refuse before reading crystals, which takes long
    structure_model = known = None
    if request.structures:
        structure_model = load_model(find_model(flags.models_dir, flags.structure_model), flags.device)
        known = open_source(flags.source, flags.release, flags.data_file, Path(flags.data_dir), console)
    run_design(request, trained, Path(flags.output), console, structure_model=structure_model, known=known)
    return 0


def _request(flags: argparse.Namespace):  # type: ignore[no-untyped-def]
    from crystrata.design.composition_search import CompositionSettings
    from crystrata.design.constraints import Constraints
    from crystrata.design.latent_search import LatentSettings
    from crystrata.design.objectives import Objective
    from crystrata.workflows.design_run import DesignRequest

    steps = {} if flags.steps is None else {"steps": flags.steps}
    given = flags.method == "composition"
    if not given:
        for name in ("elements", "without", "max_elements", "fix", "freeze_elements", "min_amount"):
            if getattr(flags, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} needs --method composition: {flags.method} supports none")
    if flags.seeds and flags.starts is not None:
        raise UsageError("--seeds and --starts contradict each other: start from seeds, or at random")
    constraints = Constraints(
        allowed_elements=_allowed(flags) if given else None, max_elements=flags.max_elements,
        fixed_amounts=_amounts(flags.fix), element_step_scale=dict.fromkeys(names_of(flags.freeze_elements), 0.0),
        min_nonzero_weight=(_LEAST_AMOUNT if flags.min_amount is None else flags.min_amount) if given else 0.0,
    )  # fmt: skip
    composition = CompositionSettings(
        seed_blend=flags.seed_blend, diversity_scale=flags.diversity,
        starts=_STARTS if flags.starts is None else flags.starts, random_seed=flags.seed, **(steps if given else {}),
    )  # fmt: skip
    latent = LatentSettings(
        "input" if flags.method == "input" else "latent", random_seed=flags.seed, **({} if given else steps)
    )
    return DesignRequest(
        tuple(map(Objective.parse, flags.objectives)), constraints, flags.method, tuple(names_of(flags.seeds)),
        composition, latent, max_atoms=flags.max_atoms, formulas=flags.formulas, structures=flags.structures,
    )  # fmt: skip


def _allowed(flags: argparse.Namespace) -> list[str]:
    without = names_of(flags.without)
    for symbol in without:
        if symbol not in SYMBOLS:
            raise UsageError(f"--without: unknown element {symbol!r}{nearest(symbol, SYMBOLS)}")
    usual = [symbol for symbol in SYMBOLS if symbol not in INERT_OR_UNSTABLE]
    named = usual if flags.elements is None else names_of(flags.elements)
    return [symbol for symbol in named if symbol not in without]


def _amounts(text: str | None) -> dict[str, float]:
    amounts = {}
    for part in names_of(text):
        symbol, _, amount = part.partition("=")
        try:
            amounts[symbol.strip()] = float(amount)
        except ValueError:
            raise UsageError(f"--fix takes amounts such as O=0.5, not {part!r}") from None
    return amounts


def build_study_parser(program: str = "crystrata design study") -> Parser:
    """Return the parser of the verb."""
    parser = Parser(
        program,
        "Compare latent and composition searches for several scenarios, from the same seeds, in tables and "
        "figures. The same command continues an interrupted study.",
        ("--config examples/design/three_scenarios.toml", "--config study.toml --model jarvis-compositions"),
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="TOML file with a table [study]")
    parser.add_argument(
        "--model", "--checkpoint", dest="model", metavar="MODEL",
        help="model of compositions: a completed run, a weights file beside its split such as `final_model.pt`, or the "
        "name or folder of a shipped model; takes precedence over the file",
    )  # fmt: skip
    parser.add_argument("--output", metavar="DIR", help="folder of the study; takes precedence over the file")
    add_models_dir(parser)
    parser.add_argument("--device", default="auto", metavar="{auto,cpu,cuda}", help="where to compute")
    return parser


def study(arguments: Sequence[str] | None = None, program: str = "crystrata design study") -> int:
    """Parse the flags and run the study; return the exit code."""
    flags = build_study_parser(program).parse_args(arguments)
    return run_verb(lambda: _run_study(flags))


def _run_study(flags: argparse.Namespace) -> int:
    from crystrata.design.study_config import read_study
    from crystrata.runs.find import find_model
    from crystrata.workflows.study import run_study

    config = read_study(Path(flags.config), model=flags.model, output=flags.output)
    run_study(config, find_model(flags.models_dir, config.model), terminal(), flags.device)
    return 0
