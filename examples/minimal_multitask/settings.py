"""What the example is told: the configuration, the random seed, and where the log goes."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import yaml

LOG = logging.getLogger("minimal_multitask")
SECTIONS = {
    "logging": {"level", "file"},
    "model": {"input_dim", "shared_hidden", "shared_dim", "tasks"},
    "training": {"epochs", "batch_size", "learning_rate", "loss_weights"},
    "data": {"random_seed", "num_train", "num_val"},
}
TASK_KEYS = {"name", "type", "num_classes"}
COUNTS = {"input_dim", "shared_dim", "num_classes", "epochs", "batch_size", "num_train", "num_val"}
RULES: list[tuple[set[str], Callable[[Any], bool], str]] = [
    ({"level", "file", "name", "type"}, lambda value: isinstance(value, str), "text"),
    (COUNTS, lambda value: type(value) is int and value > 0, "a whole number from 1 on"),
    ({"tasks"}, lambda value: isinstance(value, list) and bool(value), "a list of at least one"),
    ({"shared_hidden"}, lambda value: _numbers(value, int), "a list of whole numbers"),
    ({"loss_weights"}, lambda value: _numbers(value, int, float), "a list of numbers from 0 on"),
]
"""Keys, what their values must fulfil, and that in words."""


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration in a YAML file: the sections and keys of `SECTIONS`, all of them.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: It is no YAML, a key is missing or unknown, or a value is not of its kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no configuration {path.resolve()}: name one with --config FILE")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from None
    _check(str(path), config, set(SECTIONS))
    for section, keys in SECTIONS.items():
        _check(f"{path}: {section}", config[section], keys)
    for task in config["model"]["tasks"]:
        _check(f"{path}: task", task, TASK_KEYS)
    return config


def _check(place: str, values: object, keys: set[str]) -> None:
    """Raise an error unless these are the keys of a section, with values that follow the rules."""
    given = values if isinstance(values, Mapping) else {}
    if given.keys() != keys:
        raise ValueError(f"{place}: missing {sorted(keys - given.keys())}, unknown {sorted(given.keys() - keys)}")
    for names, fulfils, words in RULES:
        for key in sorted(names & keys):
            if not fulfils(given[key]):
                raise ValueError(f"{place}: {key} must be {words}, not {given[key]!r}")


def _numbers(value: Any, *kinds: type[int] | type[float]) -> bool:
    return isinstance(value, list) and all(isinstance(each, kinds) and each >= 0 for each in value)


def random_seed(config: Mapping[str, Any], env_file: Path) -> int:
    """Return the seed: RANDOM_SEED of the environment, or else of `env_file`, or else of the configuration.

    Raises:
        ValueError: It is no whole number from 0 to 2^63 - 1.
    """
    written = {}
    for line in env_file.read_text(encoding="utf-8").splitlines() if env_file.is_file() else ():
        key, _, value = " ".join(shlex.split(line, comments=True)).removeprefix("export ").partition("=")
        written[key.strip()] = value.strip()
    seed = os.environ.get("RANDOM_SEED") or written.get("RANDOM_SEED") or str(config["data"]["random_seed"])
    if not seed.isdecimal() or int(seed) >= 2**63:
        raise ValueError(f"the random seed must be a whole number from 0 to 2^63 - 1, not {seed!r}")
    return int(seed)


@contextmanager
def logging_to(level: str, file: Path) -> Iterator[None]:
    """Log to the terminal and to a file that starts anew at 1 MB; the three before it are kept.

    Raises:
        ValueError: The level has another name than DEBUG, INFO, WARNING, ERROR or CRITICAL.
    """
    LOG.setLevel(level.upper())
    file.parent.mkdir(parents=True, exist_ok=True)
    rotating = RotatingFileHandler(file, maxBytes=1_000_000, backupCount=3, encoding="utf-8")
    rotating.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout), rotating]
    for handler in handlers:
        LOG.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            LOG.removeHandler(handler)
            handler.close()
