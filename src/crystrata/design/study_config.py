"""Configuration of a study: scenarios, and the searches that are compared on each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch

from crystrata.datasets.splits import PARTS
from crystrata.design.composition_search import CompositionSettings
from crystrata.design.constraints import Constraints
from crystrata.design.formulas import MOST_ATOMS
from crystrata.design.latent_search import LatentSettings
from crystrata.design.objectives import Objective, ObjectiveFunction
from crystrata.elements import INERT_OR_UNSTABLE, SYMBOLS
from crystrata.errors import UsageError, unknown_name
from crystrata.files import read_toml_table
from crystrata.networks.heads.scalar import ScalarHead
from crystrata.networks.network import Network
from crystrata.runs.find import DEFAULT_COMPOSITIONS
from crystrata.settings import checked, make, require_known

TABLE = "study"
"""Table of a TOML file with the configuration; other tables belong to other commands."""

STRATEGIES = ("probability", "loss", "random", "explicit")
_SETTINGS: dict[str, tuple[type, tuple[str, ...]]] = {
    "latent": (LatentSettings, ("steps", "lr")),
    "composition": (CompositionSettings, ("steps", "lr", "annealing_scale", "random_seed")),
    "constraints": (Constraints, tuple(entry.name for entry in fields(Constraints))),
}
"""Sub-table -> class that it configures, and its keys; the paths decide on the other settings of a search."""

OLDER_KEYS = {"checkpoint": "model", "want": "objectives"}
"""Key in an older file, in any table of a study -> current key."""

_CLASS_TARGET = {"task": str, "classes": tuple[str, ...]}
"""Key of a target class -> type of its value."""

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class SeedChoice:
    """Choice of the known compositions to start from. Only the best composition of each set of elements is taken.

    Attributes:
        strategy: `probability`, the most probable members of the target class; `loss`, the compositions with the lowest
            loss; `random`; or `explicit`, the named formulas.
        count: Number of seeds; named formulas are always used, even if there are more.
        pool: Part of the split to choose from: test, val or train. Pure elements are left out.
        formulas: Formulas of the strategy `explicit`.
        append: Further formulas, placed before the chosen ones.
        random_seed: Seed of the strategy `random`.

    Raises:
        UsageError: A value is out of range, or formulas and strategy contradict each other.
    """

    strategy: str = "probability"
    count: int = 20
    pool: str = "test"
    formulas: tuple[str, ...] = ()
    append: tuple[str, ...] = ()
    random_seed: int = 0

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise unknown_name("strategy of seeds", self.strategy, STRATEGIES)
        if self.pool not in PARTS:
            raise unknown_name("pool of seeds", self.pool, PARTS)
        if self.count < 1:
            raise UsageError(f"the count of seeds must be 1 or more, not {self.count}")
        if (self.strategy == "explicit") != bool(self.formulas):
            raise UsageError("seeds: give formulas with the strategy explicit, and only with it")


@dataclass(frozen=True)
class Scenario:
    """Objectives that are searched together.

    Attributes:
        name: Name of the scenario and of its folder.
        targets: Task -> target value, in standard deviations from the mean of its training labels.
        objectives: Further objectives in physical units, written like those of `crystrata design`.
        class_target: `task` and `classes`: the target class, or several equally acceptable ones.
        class_weight: Weight of the loss of classes.

    Raises:
        UsageError: There are fewer than two objectives, the name cannot name a folder, or `class_target` has other
            keys.
    """

    name: str
    targets: dict[str, float] = field(default_factory=dict)
    objectives: tuple[str, ...] = ()
    class_target: dict[str, Any] = field(default_factory=dict)
    class_weight: float = 5.0

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name or self.name.startswith("."):
            raise UsageError(f"scenario {self.name!r} cannot name a folder: leave out slashes")
        for task, z in self.targets.items():
            if not (isinstance(z, (int, float)) and isfinite(z)):
                raise UsageError(f"the target of {task} in {self.name} must be a number, not {z!r}")
        for key, value in self.class_target.items():
            if key not in _CLASS_TARGET:
                raise unknown_name(f"key of class_target of {self.name}", key, _CLASS_TARGET)
            checked(value, _CLASS_TARGET[key], f"{key} of class_target of {self.name}")
        if self.class_target and len(self.class_target) < len(_CLASS_TARGET):
            raise UsageError(f"class_target of {self.name} needs a task and classes")
        if len(self.targets) + len(self.objectives) + bool(self.class_target) < 2:
            raise UsageError(f"scenario {self.name} needs at least two objectives")

    def resolved(self, network: Network) -> tuple[Objective, ...]:
        """Return all objectives, classes first, with values in physical units.

        Raises:
            UsageError: The objectives contradict each other or do not fit the network.
        """
        found = [self._physical(name, z, network) for name, z in self.targets.items()]
        found += map(Objective.parse, self.objectives)
        if self.class_target:
            found.append(Objective(self.class_target["task"], "class", classes=tuple(self.class_target["classes"])))
        ObjectiveFunction(found, network)
        classes = [replace(objective, weight=self.class_weight) for objective in found if objective.classes]
        return (*classes, *(objective for objective in found if not objective.classes))

    def _physical(self, task: str, z: float, network: Network) -> Objective:
        """Return the objective for a standardised value; it is at least 0 where labels are never negative."""
        ObjectiveFunction([Objective(task, "=", 0.0)], network)
        head = network.head(task)
        if not isinstance(head, ScalarHead):
            raise TypeError(f"{task} has no scale")
        return Objective(task, "=", float(head.scaling.restore(torch.tensor(float(z)).to(head.scaling.scale))))


@dataclass(frozen=True)
class StudyConfig:
    """Everything that defines a study.

    Attributes:
        scenarios: Scenarios, each with a folder of its own.
        model: Model of compositions: a run, a weights file beside its split, or the name or folder of a shipped
            model.
        output: Output folder; the study writes into its sub-folder `inverse_design/`.
        seeds: Choice of the compositions to start from.
        latent_alphas: Alignments of the latent searches, one path each.
        seed_blend: Share of the seed at the start of all composition paths except the strict one.
        without: Elements excluded from the pool of seeds and from all composition paths, unless they are named.
        whitelist: Elements of the whitelist path; those of all seeds if not given.
        low_diversity: The `diversity_scale` of the low-diversity path.
        constraints: Constraints of all composition paths: fields of `Constraints`.
        latent: `steps` and `lr` of the latent searches.
        composition: `steps`, `lr`, `annealing_scale` and `random_seed` of the composition searches.
        max_atoms: Largest number of atoms in a formula.

    Raises:
        UsageError: A value is out of range.
    """

    scenarios: tuple[Scenario, ...]
    model: str = DEFAULT_COMPOSITIONS
    output: str = "artifacts/inverse_design_run"
    seeds: SeedChoice = field(default_factory=SeedChoice)
    latent_alphas: tuple[float, ...] = (0.0, 0.5, 1.0)
    seed_blend: float = 0.95
    without: tuple[str, ...] = INERT_OR_UNSTABLE
    whitelist: tuple[str, ...] = ()
    low_diversity: float = 0.0
    constraints: dict[str, Any] = field(default_factory=dict)
    latent: dict[str, Any] = field(default_factory=dict)
    composition: dict[str, Any] = field(default_factory=dict)
    max_atoms: int = MOST_ATOMS

    def __post_init__(self) -> None:
        if not self.scenarios:
            raise UsageError(f"a study needs scenarios: list them as [[{TABLE}.scenarios]]")
        names = [scenario.name for scenario in self.scenarios]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise UsageError(f"two scenarios are named {min(repeated)}")
        if len(set(self.latent_alphas)) < len(self.latent_alphas):
            raise UsageError("latent_alphas has the same value twice")
        for symbol in self.without:
            if symbol not in SYMBOLS:
                raise unknown_name("element in without", symbol, SYMBOLS)
        self._check_searches()
        if self.max_atoms < 1:
            raise UsageError(f"max_atoms must be 1 or more, not {self.max_atoms}")

    def _check_searches(self) -> None:
        Constraints(**self.constraints)
        CompositionSettings(**self.composition, seed_blend=self.seed_blend, diversity_scale=self.low_diversity)
        for alpha in self.latent_alphas:
            LatentSettings(**self.latent, ae_align_scale=alpha)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StudyConfig:
        """Return the configuration of a table from a TOML file.

        Raises:
            UsageError: A key is unknown, or a value has the wrong type.
        """
        given = dict(values)
        scenarios = given.get("scenarios", ())
        if not isinstance(scenarios, Sequence) or isinstance(scenarios, str):
            raise UsageError(f"[{TABLE}] scenarios must be a list of tables, not {scenarios!r}")
        given["scenarios"] = tuple(_made(Scenario, one, f"{TABLE}.scenarios") for one in scenarios)
        given["seeds"] = _made(SeedChoice, given.get("seeds", {}), f"{TABLE}.seeds")
        for name, (kind, known) in _SETTINGS.items():
            given[name] = _settings(given.get(name, {}), kind, known, f"{TABLE}.{name}")
        return _made(cls, given, TABLE)

    def resume_settings(self) -> dict[str, Any]:
        """Return the values that must be the same for an interrupted scenario to continue."""
        values = asdict(self)
        for name in ("scenarios", "model", "output"):
            del values[name]
        return values


def _made(kind: type[_Made], values: Any, table: str) -> _Made:
    """Return a configuration object from plain values."""
    try:
        return make(kind, _with_current_keys(_require_table(values, table), table), table)
    except TypeError as error:
        raise UsageError(f"[{table}] lacks a value: {error}") from None


def _with_current_keys(values: Mapping[str, Any], table: str) -> dict[str, Any]:
    """Return a table with current keys in place of older ones."""
    for older, key in OLDER_KEYS.items():
        if older in values and key in values:
            raise UsageError(f"[{table}] has both {key} and {older}, its older name: remove {older}")
    return {OLDER_KEYS.get(key, key): value for key, value in values.items()}


def _settings(values: Any, kind: type, known: Iterable[str], table: str) -> dict[str, Any]:
    """Return checked values for some fields of a configuration class."""
    require_known(_require_table(values, table), known, table)
    hints = get_type_hints(kind, include_extras=True)
    return {key: checked(value, hints[key], f"{table}.{key}") for key, value in values.items()}


def _require_table(values: Any, table: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise UsageError(f"[{table}] must be a table, not {values!r}")
    return values


def read_study(path: Path, **given: Any) -> StudyConfig:
    """Read the table `[study]` of a TOML file.

    Args:
        path: The file; its other tables are ignored.
        given: Values that take precedence over those of the file, unless they are None.

    Raises:
        InputError: The file is missing or is not TOML.
        UsageError: The file has no such table, or a key or value is invalid.
    """
    table = _with_current_keys(read_toml_table(path, TABLE), TABLE)
    return StudyConfig.from_dict({**table, **{key: value for key, value in given.items() if value is not None}})
