"""A study: several searches for each scenario from the same seeds, compared in tables and figures.

The same command continues an interrupted study: finished scenarios and paths are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from crystrata.design.objectives import Objective, ObjectiveFunction
from crystrata.design.results import evaluate
from crystrata.design.study_config import StudyConfig
from crystrata.design.study_paths import PathResult, StudyPath, choose_seeds, paths_of, plain_path, run_path
from crystrata.design.trained import TrainedCompositions, read_compositions
from crystrata.errors import ModelError, UsageError
from crystrata.files import lock, write_bytes, write_json, write_text
from crystrata.reports.figures import png_of
from crystrata.reports.study_figures import (
    ScenarioResult,
    comparison_figure,
    element_figure,
    listing_figure,
    scatter_figure,
)
from crystrata.reports.study_summary import composition_table, study_results, study_summary
from crystrata.reports.tables import markdown
from crystrata.runs.directory import RUN_LOCK
from crystrata.training.checkpoints import write_checkpoint

FOLDER = "inverse_design"
SCENARIO, SEEDS, WEIGHTS, PATHS = "scenario.json", "seeds.json", "checkpoint.pt", "paths"
STUDY_RESULTS, SUMMARY = "results.json", "SUMMARY.md"
COMPARISON, ELEMENTS, SCATTER = "comparison.png", "element_frequency_heatmap.png", "qc_vs_secondary_scatter.png"
LISTING = "seed_to_optimized__{}.png"


@dataclass(frozen=True)
class _Planned:
    """A checked scenario; a folder whose `facts`, all that the results depend on, differ is refused."""

    folder: Path
    objectives: tuple[Objective, ...]
    seeds: list[str]
    paths: list[StudyPath]
    facts: dict[str, Any]


def run_study(config: StudyConfig, weights: Path, console: Console, device: str = "auto") -> Path:
    """Run a study, or the unfinished part of it; return its folder, `<output>/inverse_design`.

    `weights` is a path that `read_compositions` understands.

    Raises:
        UsageError: Objectives, seeds and constraints contradict each other or do not fit the network, or the folder has
            another study.
        CrystrataError: The weights cannot be read, or the results cannot be written.
    """
    folder = Path(config.output) / FOLDER
    content = read_compositions(weights)
    trained = TrainedCompositions.of_content(content, weights, device)
    planned = _plan(config, trained, folder)
    with lock(folder / RUN_LOCK):
        for one in planned:
            if (one.folder / STUDY_RESULTS).is_file():
                console.print(f"{one.folder.name}: already finished")
                continue
            write_json(one.folder / SCENARIO, one.facts)
            write_json(one.folder / SEEDS, {**asdict(config.seeds), "seeds": one.seeds})
            write_checkpoint(one.folder / WEIGHTS, content)
            result = _run_scenario(one, trained, config.max_atoms, console)
            _write(one.folder, result, trained)
            console.print(f"{result.name}\n{markdown(composition_table(result))}", soft_wrap=True)
    console.print(f"Study: {folder}", soft_wrap=True)
    return folder


def _plan(config: StudyConfig, trained: TrainedCompositions, folder: Path) -> list[_Planned]:
    """Return the scenarios, all checked against network and folder before the first search."""
    planned = []
    for scenario in config.scenarios:
        objectives = scenario.resolved(trained.model.network)
        seeds = choose_seeds(
            trained, ObjectiveFunction(objectives, trained.model.network), config.seeds, config.without
        )
        paths = paths_of(config, seeds)
        for path in paths:
            path.check(trained, trained.seeds(seeds))
        facts = {
            "scenario": asdict(scenario),
            "objectives": [asdict(objective) for objective in objectives],
            "settings": config.resume_settings(),
            "paths": [plain_path(path) for path in paths],
            "weights": trained.digest,
        }
        _same_as_before(folder / scenario.name, facts)
        planned.append(_Planned(folder / scenario.name, objectives, seeds, paths, facts))
    return planned


def _same_as_before(folder: Path, facts: Mapping[str, Any]) -> None:
    """Refuse to continue a scenario that was started with other facts."""
    if not (folder / SCENARIO).is_file():
        return
    before = json.loads((folder / SCENARIO).read_text(encoding="utf-8"))
    now = json.loads(json.dumps(facts))
    differing = [
        f"{key} {old!r} -> {new!r}"
        for part in ("scenario", "settings")
        for key in now[part] | before[part]
        if (old := before[part].get(key)) != (new := now[part].get(key))
    ]
    if not differing and before["weights"] != now["weights"]:
        differing = ["other weights"]
    if differing or before != now:
        raise UsageError(
            f"{folder} was started with other settings ({'; '.join(differing) or 'by another version'}): use the same "
            "settings, or another --output"
        )


def _run_scenario(one: _Planned, trained: TrainedCompositions, max_atoms: int, console: Console) -> ScenarioResult:
    """Return the results of a scenario, running only the unfinished searches."""
    weights = trained.seeds(one.seeds)
    paths = [_run_or_read(one, path, trained, weights, max_atoms, console) for path in one.paths]
    seed_values, _ = evaluate(trained, ObjectiveFunction(one.objectives, trained.model.network), weights)
    return ScenarioResult(one.folder.name, one.objectives, one.seeds, weights, seed_values, paths)


def _run_or_read(
    one: _Planned, path: StudyPath, trained: TrainedCompositions, seeds: np.ndarray, max_atoms: int, console: Console
) -> PathResult:
    file = one.folder / PATHS / f"{path.name}.json"
    if file.is_file():
        console.print(f"{one.folder.name}, {path.name}: already finished")
        try:
            return PathResult.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{file} is damaged ({error}): delete it to repeat the search") from None
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{one.folder.name}, {path.name}")

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        result = run_path(path, trained, one.objectives, seeds, max_atoms, progress)
    write_json(file, result.as_dict())
    console.print(f"{one.folder.name}, {path.name}: {len(result.weights)} compositions in {result.seconds:.1f} s")
    return result


def _write(folder: Path, result: ScenarioResult, trained: TrainedCompositions) -> None:
    """Write figures and tables; results.json comes last, as the sign that the scenario is finished."""
    figures = {COMPARISON: comparison_figure(result), ELEMENTS: element_figure(result), SCATTER: scatter_figure(result)}
    random_start = "composition_random_start"
    for path in result.paths:
        if path.name != random_start:
            figures[LISTING.format(path.name)] = listing_figure(result, path)
    for name, figure in figures.items():
        write_bytes(folder / name, png_of(figure))
    write_text(folder / SUMMARY, study_summary(result, trained.half_widths))
    write_json(folder / STUDY_RESULTS, study_results(result, trained.half_widths))
