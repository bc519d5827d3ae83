"""The paths of a study: the searches that it compares, the known compositions that they start from, and their results.

B compositions, n elements, T objectives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from crystrata.compositions.keys import formula_amounts, group_key, known_weights
from crystrata.design.composition_search import CompositionSettings
from crystrata.design.constraints import Constraints
from crystrata.design.formulas import Composition, composition_text, formula_of
from crystrata.design.latent_search import LatentSettings
from crystrata.design.objectives import Objective, ObjectiveFunction
from crystrata.design.results import best_neutral, evaluate
from crystrata.design.search import search_compositions
from crystrata.design.study_config import SeedChoice, StudyConfig
from crystrata.design.trained import TrainedCompositions
from crystrata.elements import SYMBOLS
from crystrata.errors import UsageError


def choose_seeds(
    trained: TrainedCompositions, function: ObjectiveFunction, choice: SeedChoice, without: Collection[str] = ()
) -> list[str]:
    """Return reduced formulas: first all named ones, then the best of the pool, each with different elements.

    Args:
        trained: The model.
        function: The objectives.
        choice: Choice of the seeds.
        without: Elements excluded from the pool.

    Raises:
        UsageError: A formula cannot be read, `probability` has no target class, or the pool has no suitable seeds.
    """
    named = list(dict.fromkeys(group_key(name) for name in (*choice.append, *choice.formulas)))
    if named:
        trained.seeds(named)
    pool = [] if choice.strategy == "explicit" else _ordered(trained, function, choice, without)
    seeds = [*named, *_one_of_each(pool, named)[: max(0, choice.count - len(named))]]
    if not seeds:
        raise UsageError(f"the {choice.pool} part of the split has no suitable seeds: choose another pool")
    return seeds


def _ordered(
    trained: TrainedCompositions, function: ObjectiveFunction, choice: SeedChoice, without: Collection[str]
) -> list[str]:
    """Return the compositions of the pool, best first."""
    elements = {name: formula_amounts(name).keys() for name in trained.parts[choice.pool]}
    pool = [name for name, symbols in elements.items() if len(symbols) > 1 and symbols.isdisjoint(without)]
    if choice.strategy == "random" or not pool:
        return [pool[place] for place in np.random.default_rng(choice.random_seed).permutation(len(pool))]
    values, losses = evaluate(trained, function, trained.seeds(pool))
    if choice.strategy == "probability":
        if not function.objectives[0].classes:
            raise UsageError("seeds by probability need a class target: add one, or choose the strategy loss")
        losses = -values[:, 0]
    return [pool[place] for place in np.argsort(losses, kind="stable")]


def _one_of_each(formulas: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the first formula of each set of elements, except the sets of other formulas."""
    seen, found = {frozenset(formula_amounts(other)) for other in others}, []
    for formula in formulas:
        if (elements := frozenset(formula_amounts(formula))) not in seen:
            seen.add(elements)
            found.append(formula)
    return found


@dataclass(frozen=True)
class StudyPath:
    """One way to search.

    Attributes:
        name: `latent_alpha_0.5`, `composition_strict_seed`, ...
        settings: Settings of the search; their class decides on the method.
        constraints: Constraints on the compositions; a latent search ignores them.
        seeded: Whether the search starts from the seeds.
    """

    name: str
    settings: LatentSettings | CompositionSettings
    constraints: Constraints = field(default_factory=Constraints)
    seeded: bool = True

    def check(self, trained: TrainedCompositions, seeds: np.ndarray) -> None:
        """Refuse in advance what the search would refuse.

        Raises:
            UsageError: Settings, constraints, seeds (B, n) and network do not fit each other.
        """
        with _named(self.name):
            if isinstance(self.settings, LatentSettings):
                trained.model.decoder()
            else:
                self.constraints.locked_amounts(seeds if self.seeded else None, len(seeds))


@dataclass(frozen=True)
class PathResult:
    """Results of a path; composition i of a seeded path started from seed i.

    Attributes:
        name: Name of the path.
        weights: Compositions, (B, n).
        values: Predictions for them, (B, T).
        formulas: Nearest formula of each, a neutral one where possible.
        rounding_errors: Largest error of an atomic fraction in each formula, (B,).
        formula_values: Predictions for the formulas, (B, T).
        charges: Element -> mean oxidation state that makes each formula neutral; {} for metals, None if not neutral.
        neutral_formulas: Neutral formula of the same elements with the lowest loss, or None.
        neutral_values: Predictions for these, (B, T), NaN without a formula.
        distances: Distances from the training compositions, (B,); 99 % of the validation compositions are within 1.
        cpu_seconds: CPU time of the search [s].
        seconds: Wall time of the search [s].
        latent_values: Predictions from the latents of a latent search, (B, T).
        decoded_values: Predictions after decoding and encoding them, (B, T).
    """

    name: str
    weights: np.ndarray
    values: np.ndarray
    formulas: list[str]
    rounding_errors: np.ndarray
    formula_values: np.ndarray
    charges: list[dict[str, float] | None]
    neutral_formulas: list[str | None]
    neutral_values: np.ndarray
    distances: np.ndarray
    cpu_seconds: float
    seconds: float
    latent_values: np.ndarray | None = None
    decoded_values: np.ndarray | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with compositions as element -> atomic fraction and as text."""
        plain = {
            entry.name: value.tolist() if isinstance(value := getattr(self, entry.name), np.ndarray) else value
            for entry in fields(self)
        }
        plain["weights"] = [
            {SYMBOLS[place]: float(row[place]) for place in np.flatnonzero(row)} for row in self.weights
        ]
        return {**plain, "compositions": [composition_text(row) for row in self.weights]}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> PathResult:
        """Return the result whose `as_dict` is given."""
        given = {entry.name: plain[entry.name] for entry in fields(cls)}
        given["weights"] = np.array([[row.get(symbol, 0.0) for symbol in SYMBOLS] for row in plain["weights"]])
        for name in ("values", "rounding_errors", "formula_values", "neutral_values", "distances"):
            given[name] = np.array(given[name], dtype=float)
        for name in ("latent_values", "decoded_values"):
            given[name] = None if given[name] is None else np.array(given[name], dtype=float)
        return cls(**given)


def paths_of(config: StudyConfig, seeds: Sequence[str]) -> list[StudyPath]:
    """Return the paths of a study from these seeds: latent searches first, then searches in compositions.

    Raises:
        UsageError: Settings or constraints are out of range or contradict each other.
    """
    allowed = [symbol for symbol in SYMBOLS if symbol not in config.without]
    constraints = Constraints(**{"allowed_elements": allowed, **config.constraints})
    seen = {symbol for seed in seeds for symbol in formula_amounts(seed)}
    common = [SYMBOLS[place] for place in np.flatnonzero(constraints.allowed) if SYMBOLS[place] in seen]
    with _named("composition_whitelist", f"elements of the {'whitelist' if config.whitelist else 'seeds'}"):
        whitelisted = replace(constraints, allowed_elements=config.whitelist or common)
    blended = CompositionSettings(**config.composition, seed_blend=config.seed_blend, starts=len(seeds))
    latents = [
        StudyPath(f"latent_alpha_{alpha:g}", LatentSettings(**config.latent, ae_align_scale=alpha))
        for alpha in config.latent_alphas
    ]
    return [
        *latents,
        StudyPath("composition_strict_seed", replace(blended, seed_blend=1.0), constraints),
        StudyPath("composition_seed_blend", blended, constraints),
        StudyPath("composition_whitelist", blended, whitelisted),
        StudyPath("composition_low_diversity", replace(blended, diversity_scale=config.low_diversity), constraints),
        StudyPath("composition_random_start", blended, constraints, seeded=False),
    ]


@contextmanager
def _named(path: str, remark: str = "") -> Iterator[None]:
    """Put the name of the path, and a remark on it, in front of the message of a refusal."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"path {path}{remark and f' ({remark})'}: {error}") from None


def run_path(
    path: StudyPath,
    trained: TrainedCompositions,
    objectives: Sequence[Objective],
    seeds: np.ndarray,
    max_atoms: int,
    progress: Callable[[int, int], None] | None = None,
) -> PathResult:
    """Search from seeds (B, n), or from as many random starts, and evaluate the compositions."""
    clock, cpu = time.perf_counter(), time.process_time()
    found = search_compositions(
        trained.model,
        objectives,
        path.settings,
        seeds=seeds if path.seeded else None,
        constraints=path.constraints,
        progress=progress,
    )
    cpu_seconds, seconds = time.process_time() - cpu, time.perf_counter() - clock
    return PathResult(
        name=path.name,
        weights=found.weights,
        **_evaluated(trained, ObjectiveFunction(objectives, trained.model.network), found.weights, max_atoms),
        cpu_seconds=cpu_seconds,
        seconds=seconds,
        latent_values=found.latent_values,
        decoded_values=found.decoded_values,
    )


def _evaluated(
    trained: TrainedCompositions, function: ObjectiveFunction, weights: np.ndarray, max_atoms: int
) -> dict[str, Any]:
    """Return the fields of `PathResult` that follow from compositions (B, n)."""
    compositions = [Composition.of(row, max_atoms) for row in weights]
    formulas = [composition.formula for composition in compositions]
    neutral = best_neutral(trained, function, weights, max_atoms)
    neutral_values = np.full((len(weights), len(function.objectives)), np.nan)
    if neutral_rows := [row for row, fractions in enumerate(neutral) if fractions is not None]:
        neutral_values[neutral_rows] = evaluate(trained, function, np.array([neutral[row] for row in neutral_rows]))[0]
    return {
        "values": evaluate(trained, function, weights)[0],
        "formulas": formulas,
        "rounding_errors": np.array([composition.rounding_error for composition in compositions]),
        "formula_values": evaluate(trained, function, known_weights(formulas)[0])[0],
        "charges": [composition.charges for composition in compositions],
        "neutral_formulas": [None if fractions is None else formula_of(fractions) for fractions in neutral],
        "neutral_values": neutral_values,
        "distances": trained.distance(weights),
    }


def plain_path(path: StudyPath) -> dict[str, Any]:
    """Return the settings of a path as plain JSON values."""
    return {"name": path.name, "seeded": path.seeded, **asdict(path.settings), "constraints": asdict(path.constraints)}
