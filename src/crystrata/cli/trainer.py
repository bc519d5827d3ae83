"""`crystrata-trainer`: fit, validate, test and predict what YAML files describe."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crystrata.cli.parsing import Parser, command_line, run_verb, terminal
from crystrata.errors import UsageError, nearest

if TYPE_CHECKING:
    from crystrata.workflows.documents.experiment import Experiment
    from crystrata.workflows.sources import Inputs

VERBS = ("fit", "validate", "test", "predict")
PROGRAM = "crystrata-trainer"

_SECTIONS = ("experiment_name", "seed_everything", "trainer", "model", "data")
_SHORT = {"freeze_encoder": "model.init_args.freeze_encoder", "pretrain": "model.init_args.pretrain"}
"""Flags without a value -> what they set to true."""

_EXAMPLES = """
Every value of the files has a flag of its dotted name, which takes precedence:
  crystrata-trainer fit --config FILE --trainer.max_epochs=50 --model.init_args.latent_activation none
  crystrata-trainer predict --config FILE --ckpt_path last
A number is a place in a list: --model.init_args.task_configs.0.loss_weight=0.5. Without a verb, it is fit.
"""


def build_parser() -> Parser:
    """Return the parser of the flags that are no values of the files."""
    parser = Parser(prog=PROGRAM, description="Train and evaluate what YAML files describe.", epilog=_EXAMPLES)
    parser.add_argument("--config", action="append", metavar="FILE", help="YAML file; later ones are laid over it")
    parser.add_argument(
        "--ckpt_path", metavar="RUN", help="run that fit goes on with, or that is evaluated; last is the newest one"
    )
    parser.add_argument("--print_config", action="store_true", help="print the complete configuration and stop")
    parser.add_argument(
        "--trust-pickle", action="store_true", help="open pickled tables, which can run any program while they are read"
    )
    parser.add_argument(
        "--trust-code", action="store_true", help="import the function that a descriptor names, which runs its code"
    )
    for flag, place in _SHORT.items():
        parser.add_argument(f"--{flag}", action="store_true", help=f"set {place}")
    return parser


def main(arguments: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Parse, read the files and do what the verb says; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verb = "fit"
    if given and not given[0].startswith("-"):
        verb = given.pop(0)
        if verb not in VERBS:
            build_parser().error(f"unknown verb {verb!r}{nearest(verb, VERBS)}; it is one of {', '.join(VERBS)}")
    parser = build_parser()
    flags, rest = parser.parse_known_args(given)
    values = _values(rest, parser)
    values += [(place, "true") for flag, place in _SHORT.items() if getattr(flags, flag)]
    pieces = [*(("", file) for file in flags.config or ()), *values]
    command = command_line(program, arguments)
    return run_verb(lambda: _run(verb, pieces, flags, command))


def _values(rest: Sequence[str], parser: Parser) -> list[tuple[str, str]]:
    """Return (dotted name, value) of `--a.b=c` and `--a.b c`."""
    values, words = [], iter(rest)
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name.split(".")[0] not in _top():
            known = [*parser._option_string_actions, *(f"--{top}" for top in _top())]
            flag = word.split("=")[0]
            parser.error(f"unknown argument {flag}{nearest(flag.split('.')[0], known)}")
        if not equals:
            value = next(words, "--")
            if value.startswith("--"):
                parser.error(f"{word} needs a value")
        values.append((name, value))
    return values


def _top() -> list[str]:
    """Return what may stand at the top of a file."""
    from crystrata.runs.config import field_names

    return [*_SECTIONS, *field_names(), "properties", "level"]


def _run(verb: str, pieces: Sequence[tuple[str, str]], flags: argparse.Namespace, command: list[str]) -> int:
    experiment, checkpoint = _experiment(pieces), flags.ckpt_path
    if experiment is None and (pieces or verb == "fit" or flags.print_config or checkpoint is None):
        raise UsageError(f"{PROGRAM} {verb} needs --config FILE")
    from crystrata.compositions.descriptors import TRUST_CODE
    from crystrata.workflows.sources import Inputs

    if flags.trust_code:
        os.environ[TRUST_CODE] = "1"
    inputs = Inputs(trust_pickle=flags.trust_pickle)
    if experiment is not None and flags.print_config:
        import yaml

        experiment.extras()
        print(yaml.safe_dump(experiment.as_document(), sort_keys=False), end="")
    elif experiment is not None and verb == "fit":
        _fit(experiment, checkpoint, command, inputs)
    else:
        _evaluate(verb, experiment, checkpoint, inputs)
    return 0


def _fit(experiment: Experiment, checkpoint: str | None, command: list[str], inputs: Inputs) -> None:
    from dataclasses import replace

    from crystrata.runs.directory import CHECKPOINT
    from crystrata.runs.find import continued, find_run_of, free_name
    from crystrata.workflows.run import resume, run

    config, extras = experiment.config, experiment.extras()
    if checkpoint is None:
        config = replace(config, run_id=free_name(config.family_dir, experiment.name))
        run(config, command, terminal(), inputs=inputs, extras=extras)
        return
    path = find_run_of(config, experiment.name, checkpoint, CHECKPOINT)
    resume(path, continued(path, config), command, terminal(), inputs=inputs, extras=extras)


def _evaluate(verb: str, experiment: Experiment | None, checkpoint: str | None, inputs: Inputs) -> None:
    from pathlib import Path

    from crystrata.runs.directory import BEST
    from crystrata.runs.find import find_run_of, require_run, weights_of
    from crystrata.workflows.evaluate_model import evaluate_run_part, write_predictions

    config = None if experiment is None else experiment.config
    if experiment is None or config is None:
        path = Path(checkpoint or "")
        path = require_run(path.parent if path.is_file() else path)
    else:
        path = find_run_of(config, experiment.name, checkpoint, BEST)
    weights_of(path)
    if verb == "predict":
        predict = "test" if experiment is None else experiment.predict
        write_predictions(path, config, terminal(), inputs, predict=predict)
    else:
        evaluate_run_part(path, config, "val" if verb == "validate" else "test", terminal(), inputs)


def _experiment(pieces: Sequence[tuple[str, str]]) -> Experiment | None:
    """Return what the files describe, None without any; notices go to standard error."""
    from crystrata.workflows.documents.document import read_document
    from crystrata.workflows.documents.experiment import read_experiment

    if all(name for name, _ in pieces):
        return None
    experiment, notices = read_experiment(read_document(pieces))
    for line in notices:
        print(f"notice: {line}", file=sys.stderr)
    return experiment


if __name__ == "__main__":
    sys.exit(main())
