"""After training: the figures of the best weights on validation and test, and all that a person reads about a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crystrata.datasets.splits import PARTS
from crystrata.datasets.targets import own_labels
from crystrata.files import write_json, write_text
from crystrata.networks.multitask import count_parameters
from crystrata.prediction.derived import with_derived
from crystrata.prediction.inference import describe_graphs
from crystrata.prediction.models import load_model
from crystrata.properties import get_property
from crystrata.reports.figures import history_figure, parity_figure, png_of
from crystrata.reports.html import write_report
from crystrata.reports.metrics import competition_score, property_metrics
from crystrata.reports.official import official_answers, official_figures
from crystrata.reports.tables import DEMO_CAPTION, write_tables
from crystrata.runs.config import RunConfig, mode_in_words
from crystrata.runs.directory import BEST, OFFICIAL, PREDICTIONS, RESULTS
from crystrata.workflows.calibration import calibrate_run
from crystrata.workflows.preparation import PreparedData

_EVALUATED = ("val", "test")


def evaluate_run(
    run: Path, config: RunConfig, prepared: PreparedData, history: Sequence[dict], *, hours: float | None = None
) -> dict[str, Any]:
    """Evaluate the best weights of a run; write results, tables, test predictions and report; return the results.

    Args:
        run: Its directory.
        config: Its configuration.
        prepared: Its data.
        history: Its epochs.
        hours: Hours of training, if not those of the epochs.
    """
    model, dataset, split = load_model(run / BEST, config.device), prepared.data.dataset, prepared.data.split
    names, demo = config.properties, prepared.facts["source"]["demo"]
    levels = {name: hull.levels for name, hull in prepared.hulls.items()}
    labels = with_derived(names, dataset.properties, dataset.targets, levels, own_labels(dataset.labels, names))
    truth = {part: labels[split.part(part)] for part in PARTS}
    predicted, details, latents = {}, {}, {}
    for part in _EVALUATED:
        rows = split.part(part)
        values, details[part], latents[part] = describe_graphs(model.network, dataset.graphs, rows)
        placed = {name: level[rows] for name, level in levels.items()}
        predicted[part] = with_derived(names, dataset.properties, values, placed)
    properties: dict[str, dict[str, Any]] = {name: {} for name in config.properties}
    for column, name in enumerate(config.properties):
        for part in _EVALUATED:
            metrics = property_metrics(
                truth[part][:, column],
                predicted[part][:, column],
                truth["train"][:, column],
                prepared.outliers.flagged_for(name)[split.part(part)],
            )
            properties[name][part] = metrics.as_dict() if metrics else None
    answers = official_answers(
        split, dataset.ids, dataset.labels, config.properties, predicted["test"], details["test"]
    )
    skills = [parts["test"]["skill"] for parts in properties.values() if parts["test"]]
    hours = sum(epoch["seconds"] for epoch in history) / 3600 if hours is None else hours
    results = {
        "demo": demo,
        "properties": properties,
        **(competition_score(skills, hours) if skills else {"score": None, "balanced_score": None}),
        "hours": hours,
        "best_epoch": model.facts["best_epoch"],
        "val_score": model.facts["val_score"],
        "parameters": count_parameters(model.network),
        "official_tests": official_figures(answers, config.properties, dataset.labels.iloc[split.train]),
        "intervals": calibrate_run(run, model, prepared, config.properties, truth, predicted, latents),
        "split": {"protocol": split.protocol, "seed": split.seed, **{part: len(split.part(part)) for part in PARTS}},
    }
    write_json(run / RESULTS, results)
    write_tables(run, results)
    write_text(run / OFFICIAL, answers.to_csv(index=False, float_format="%.9g"))
    _write_predictions(run, [dataset.ids[row] for row in split.test], config, truth["test"], predicted["test"], demo)
    _write_report(run, config, results, history, truth["test"], predicted["test"])
    return results


def _write_predictions(
    run: Path, ids: list[str], config: RunConfig, truth: np.ndarray, predicted: np.ndarray, demo: bool
) -> None:
    """Write one row per test crystal: for each property the label and the prediction."""
    columns: dict[str, Any] = {"id": ids}
    for column, name in enumerate(config.properties):
        title = get_property(name).column
        columns[f"label {title}"], columns[f"predicted {title}"] = truth[:, column], predicted[:, column]
    comment = f"# {DEMO_CAPTION}\n" if demo else ""
    write_text(run / PREDICTIONS, comment + pd.DataFrame(columns).to_csv(index=False, float_format="%.6g"))


def _write_report(
    run: Path,
    config: RunConfig,
    results: dict[str, Any],
    history: Sequence[dict[str, Any]],
    truth: np.ndarray,
    predicted: np.ndarray,
) -> None:
    title = f"{config.algorithm}, {mode_in_words(config.mode)}, {len(config.properties)} properties"
    facts = {
        "run": run.name,
        "encoder": config.encoder,
        "parameters": results["parameters"],
        "crystals (training, validation, test)": ", ".join(str(results["split"][part]) for part in PARTS),
        "split": f"{results['split']['protocol']}, seed {results['split']['seed']}",
        "epochs, best epoch": f"{len(history)}, {results['best_epoch']}",
        "training hours": f"{results['hours']:.3f}",
        "score (100 x mean skill)": "-" if results["score"] is None else f"{results['score']:.1f}",
    }
    parity = parity_figure(config.properties, truth, predicted, f"test part, {title}")
    figures = [("Predicted against true values, test part", png_of(parity))]
    figures.append(("Learning curves", png_of(history_figure(history))))
    write_report(run, title, results, facts, figures)
