"""Inverse design put to the test: do independent networks confirm the properties of the compositions that it finds?

    python benchmarks/design.py --data-file FILE [--targets N] [--epochs N]

A network of compositions is trained on the lowest-energy crystal of each formula (formation energy, gap, metal or not,
autoencoder), and three independent ones with other seeds. For each of some held-out compounds, every method searches,
from random starts, for a composition with the formation energy and gap of that compound. The search succeeds if the
mean prediction of the independent networks is within the test error of the network for both. Methods without gradients
may call the network as often, where a gradient counts as two calls. Results are saved in results/design.json, from
which the page results/design.md is made.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from crystrata.compositions.keys import group_key, known_weights
from crystrata.design.composition_search import CompositionSettings, optimize_composition
from crystrata.design.constraints import Constraints
from crystrata.design.formulas import integer_formula, neutral_formula
from crystrata.design.latent_search import LatentSettings, optimize_latent
from crystrata.design.objectives import Objective, ObjectiveFunction
from crystrata.design.results import best_neutral
from crystrata.design.trained import TrainedCompositions
from crystrata.elements import SYMBOLS
from crystrata.files import write_json, write_text
from crystrata.reports.tables import markdown
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import RESULTS
from crystrata.tasks import parse_tasks
from crystrata.workflows.run import run
from crystrata.workflows.sources import Inputs
from design_searches import evolved, random_compositions

RESULT = Path(__file__).parent / "results" / "design.json"
TASKS = {"formation_energy": "formation_energy_peratom", "band_gap": "optb88vdw_bandgap"}
RESTARTS, MAX_ATOMS, MOST = 3, 12, 4
STEPS = {"composition": 300, "latent": 200, "input": 200}
CALLS = 3 * STEPS["composition"]  # of the network, per composition
INDEPENDENT = (1, 2, 3)  # seeds
USUAL = [symbol for symbol in SYMBOLS[:83] if symbol not in ("He", "Ne", "Ar", "Kr", "Xe", "Tc", "Pm")]

Search = Callable[[TrainedCompositions, list[Objective], int], np.ndarray]


def main() -> int:
    """Train the networks, search with every method, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-file", required=True)
    parser.add_argument("--targets", type=int, default=200, help="held-out compounds")
    parser.add_argument("--epochs", type=int, default=20, help="of each network")
    flags = parser.parse_args()
    table = compounds(Path(flags.data_file))
    with tempfile.TemporaryDirectory() as folder:
        runs = [train(table, Path(folder), seed, flags.epochs) for seed in (42, *INDEPENDENT)]
        trained = TrainedCompositions.load(runs[0], "cpu")
        independent = [TrainedCompositions.load(run, "cpu") for run in runs[1:]]
        results = json.loads((runs[0] / RESULTS).read_text(encoding="utf-8"))["tasks"]
        errors = {task: results[task]["test"]["mae"] for task in TASKS}
        target = targets(table, runs[0], flags.targets)
        found = {
            name: evaluate_method(name, search, trained, independent, target, errors)
            for name, search in METHODS.items()
        }
        found["the compounds themselves"] = success(independent, known_weights(list(target.index))[0], target, errors)
    settings = {"targets": len(target), "epochs": flags.epochs, "restarts": RESTARTS, "errors": errors}
    write_json(RESULT, {"settings": settings, "methods": found})
    write_text(RESULT.with_suffix(".md"), page(json.loads(RESULT.read_text(encoding="utf-8"))))
    return 0


def compounds(path: Path) -> pd.DataFrame:
    """Return the lowest-energy crystal of each formula."""
    table = pd.read_parquet(path, columns=["formula", *TASKS.values()]).rename(columns={v: k for k, v in TASKS.items()})
    table = table.sort_values("formation_energy", kind="stable")
    table["composition"] = [group_key(formula) for formula in table.pop("formula")]
    table = table.drop_duplicates("composition").dropna()
    table["metal"] = np.where(table["band_gap"] == 0, "metal", "non-metal")
    return table.reset_index(drop=True)


def train(table: pd.DataFrame, folder: Path, seed: int, epochs: int) -> Path:
    """Train a network on the split of seed 42, its weights and order by another seed; return its run."""
    columns = ({"name": task, "kind": "regression", "data_column": task} for task in TASKS)
    metal = {"name": "metal", "kind": "classification", "data_column": "metal", "classes": ("metal", "non-metal")}
    if seed != 42:
        split = json.loads((folder / "tasks_mlp" / "run_42" / "splits.json").read_text(encoding="utf-8"))
        parts = {key: part for part in ("train", "val", "test") for key in split[part]}
        table = table.assign(split=table["composition"].map(parts))
    config = RunConfig(
        parse_tasks([*columns, metal]), composition="mlp", composition_settings={"hidden_dims": [None, 256, 128]},
        latent_stage="tanh", autoencoder=True, epochs=epochs, batch_size=128, lr=2e-3, weight_decay=1e-2,
        patience=epochs, seed=seed, models_dir=str(folder), run_id=f"{seed}",
    )  # fmt: skip
    return run(config, sys.argv, Console(stderr=True), inputs=Inputs(table))


def targets(table: pd.DataFrame, run: Path, count: int) -> pd.DataFrame:
    """Return formation energy and gap of held-out compounds, half of them with a gap."""
    held = json.loads((run / "splits.json").read_text(encoding="utf-8"))["test"]
    rows = table.set_index("composition").loc[held]
    gapped = rows[rows["band_gap"] > 0].sample(count // 2, random_state=0)
    return pd.concat([gapped, rows[rows["band_gap"] == 0].sample(count - count // 2, random_state=0)])


def by_composition(constraints: Constraints | None = None) -> Search:
    """Return the search for compositions by gradient."""

    def search(trained: TrainedCompositions, objectives: list[Objective], count: int) -> np.ndarray:
        settings = CompositionSettings(starts=count, steps=STEPS["composition"])
        return optimize_composition(trained.model, objectives, constraints=constraints, settings=settings).weights

    return search


def by_latent(space: Any, alpha: float = 0.5) -> Search:
    """Return the search for latents or descriptors, from random compositions."""

    def search(trained: TrainedCompositions, objectives: list[Objective], count: int) -> np.ndarray:
        seeds = random_compositions(np.random.default_rng(0), count, USUAL, MOST)
        settings = LatentSettings(space, steps=STEPS[space], ae_align_scale=alpha)
        return optimize_latent(trained.model, objectives, seeds=seeds, settings=settings).weights[:, 0]

    return search


def without_gradients(trained: TrainedCompositions, objectives: list[Objective], *, evolve: bool) -> np.ndarray:
    """Return the best of random compositions for each objective, or of their descendants."""
    function = ObjectiveFunction(objectives, trained.model.network)

    @torch.inference_mode()
    def losses(compositions: np.ndarray, rows: np.ndarray) -> np.ndarray:
        own = ObjectiveFunction(
            [replace(one, value=tuple(np.asarray(one.value)[rows])) for one in objectives], function.network
        )
        return own.losses(
            trained.model.latents(trained.model.descriptors(torch.as_tensor(compositions).float()))
        ).numpy()

    count = len(np.asarray(objectives[0].value))
    return evolved(losses, count, CALLS, USUAL, MOST, generations=45 if evolve else 1)


METHODS: dict[str, Search] = {
    "composition": by_composition(),
    f"composition, at most {MOST} elements": by_composition(
        Constraints(max_elements=MOST, min_nonzero_weight=0.02, allowed_elements=USUAL)
    ),
    "latent, alignment 0.5": by_latent("latent"),
    "latent, alignment 0": by_latent("latent", 0.0),
    "input": by_latent("input"),
    "evolution, as many calls": lambda trained, objectives, _: without_gradients(trained, objectives, evolve=True),
    "random search, as many calls": lambda trained, objectives, _: without_gradients(trained, objectives, evolve=False),
}


def evaluate_method(
    name: str,
    search: Search,
    trained: TrainedCompositions,
    independent: list[TrainedCompositions],
    target: pd.DataFrame,
    errors: dict[str, float],
) -> dict[str, Any]:
    """Search for every compound with restarts, choose the best by the searching network, and evaluate the choice."""
    repeated = target.loc[target.index.repeat(RESTARTS)]
    objectives = [Objective(task, "=", tuple(repeated[task].tolist())) for task in TASKS]
    started, clock = time.process_time(), time.perf_counter()
    compositions = search(trained, objectives, len(repeated))
    seconds, wall = time.process_time() - started, time.perf_counter() - clock
    best = miss(predictions([trained], compositions), repeated, errors).max(axis=1).reshape(-1, RESTARTS).argmin(axis=1)
    chosen = compositions.reshape(len(target), RESTARTS, -1)[np.arange(len(target)), best]
    formulas = [(neutral_formula(row, MAX_ATOMS) or integer_formula(row, MAX_ATOMS))[0] for row in chosen]
    own = met(predictions([trained], chosen), target, errors)
    metrics = {"own": own, "composition": success(independent, chosen, target, errors)}
    near = known_weights(formulas)[0]
    metrics["formula"] = success(independent, near, target, errors)
    function = ObjectiveFunction(
        [Objective(task, "=", tuple(target[task].tolist())) for task in TASKS], trained.model.network
    )
    best_of = best_neutral(trained, function, chosen, MAX_ATOMS)
    refined = np.array(
        [known_weights([near])[0][0] if one is None else one for one, near in zip(best_of, formulas, strict=True)]
    )
    metrics["best"] = success(independent, refined, target, errors)
    same = np.mean([formula == compound for formula, compound in zip(formulas, target.index, strict=True)])
    elements = float((chosen > 1e-3).sum(axis=1).mean())
    print(name, metrics, f"{seconds:.1f} s", flush=True)
    rate = 100 * seconds / len(compositions)
    return {**metrics, "same": float(same), "elements": elements, "seconds_per_100": rate, "clock": wall}


def predictions(networks: list[TrainedCompositions], compositions: np.ndarray) -> np.ndarray:
    """Return the mean prediction of formation energy and gap, (n, 2)."""
    parts = []
    for one in networks:
        function = ObjectiveFunction([Objective(task, "least") for task in TASKS], one.model.network)
        with torch.inference_mode():
            latent = one.model.latents(one.model.descriptors(torch.as_tensor(compositions).float()))
            parts.append(function.values(latent).numpy())
    return np.mean(parts, axis=0)


def miss(predicted: np.ndarray, target: pd.DataFrame, errors: dict[str, float]) -> np.ndarray:
    """Return distances from the targets in mean absolute errors, (n, 2)."""
    return np.abs(predicted - target[list(TASKS)].to_numpy()) / np.array([errors[task] for task in TASKS])


def met(predicted: np.ndarray, target: pd.DataFrame, errors: dict[str, float]) -> float:
    """Return the share of rows that reach both targets."""
    return float((miss(predicted, target, errors) <= 1).all(axis=1).mean())


def success(
    independent: list[TrainedCompositions], compositions: np.ndarray, target: pd.DataFrame, errors: dict[str, float]
) -> float:
    """Return the share that reaches both targets in the predictions of the independent networks."""
    return met(predictions(independent, compositions), target, errors)


def page(result: dict[str, Any]) -> str:
    """Return the page of the results."""
    settings, rows = result["settings"], []
    for name, metrics in result["methods"].items():
        if isinstance(metrics, float):
            rows.append({"method": name, "formula [%]": f"{100 * metrics:.1f}"})
            continue
        rows.append(
            {
                "method": name,
                "searching network [%]": f"{100 * metrics['own']:.1f}",
                "composition [%]": f"{100 * metrics['composition']:.1f}",
                "formula [%]": f"{100 * metrics['formula']:.1f}",
                "best formula [%]": f"{100 * metrics['best']:.1f}",
                "the compound itself [%]": f"{100 * metrics['same']:.1f}",
                "elements": f"{metrics['elements']:.1f}",
                "CPU s per 100 compositions": f"{metrics['seconds_per_100']:.2f}",
            }
        )
    errors = ", ".join(f"{task} {error:.3g} eV" for task, error in settings["errors"].items())
    return f"""# {(__doc__ or "").strip()}

{settings["targets"]} compounds, half of them with a gap; networks of {settings["epochs"]} epochs; {RESTARTS} restarts
for each compound, of which the best by the searching network counts. Mean absolute errors:
{errors}.

- Searching network: its own predictions for the compositions that it found; all other shares are by the independent
  networks.
- Formula: the neutral one of the same elements that is nearest to the composition, of at most {MAX_ATOMS} atoms, or the
  nearest of all where none is neutral. Best formula: of the neutral ones, that of the lowest loss.
- The compound itself: how often the formula is that of the compound whose properties were the target.
- The compounds themselves: their own formulas, whose predictions have the errors of a network.

{markdown(pd.DataFrame(rows).fillna(""))}"""


if __name__ == "__main__":
    raise SystemExit(main())
