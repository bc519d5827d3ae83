"""After training: the figures of the best weights on validation and test, and all that a person reads about a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crystrata.datasets.splits import PARTS
from crystrata.datasets.targets import own_labels
from crystrata.files import write_json, write_text
from crystrata.hull.derived import with_derived
from crystrata.networks.multitask import count_parameters
from crystrata.prediction.inference import Described, describe_graphs
from crystrata.prediction.models import TrainedModel, load_model
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
    demo = prepared.facts["source"]["demo"]
    truth = {part: labels_of_part(config, prepared, part) for part in PARTS}
    predicted, details, latents = {}, {}, {}
    for part in _EVALUATED:
        predicted[part], details[part], latents[part] = predict_part(model, config, prepared, part)
    properties: dict[str, dict[str, Any]] = {name: {} for name in config.properties}
    for part in _EVALUATED:
        metrics = part_metrics(config, prepared, part, truth, predicted[part])
        for name in config.properties:
            properties[name][part] = metrics[name]
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


def labels_of_part(config: RunConfig, prepared: PreparedData, part: str) -> np.ndarray:
    """Return the labels of a part in physical units, derived ones included, (n, P), NaN where unknown."""
    names, dataset = config.properties, prepared.data.dataset
    levels = {name: hull.levels for name, hull in prepared.hulls.items()}
    labels = with_derived(names, dataset.properties, dataset.targets, levels, own_labels(dataset.labels, names))
    return labels[prepared.data.split.part(part)]


def predict_part(model: TrainedModel, config: RunConfig, prepared: PreparedData, part: str) -> Described:
    """Return what a model says about a part, values with the derived ones, (n, P)."""
    dataset, rows = prepared.data.dataset, prepared.data.split.part(part)
    found = describe_graphs(model.network, dataset.graphs, rows)
    placed = {name: hull.levels[rows] for name, hull in prepared.hulls.items()}
    return found._replace(values=with_derived(config.properties, dataset.properties, found.values, placed))


def part_metrics(
    config: RunConfig, prepared: PreparedData, part: str, truth: Mapping[str, np.ndarray], predicted: np.ndarray
) -> dict[str, dict[str, Any] | None]:
    """Return the metrics of each property on a part, None where it has no label there.

    Args:
        config: The run.
        prepared: Its data.
        part: The part.
        truth: Labels of this part and of the training part, each (n, P).
        predicted: (n, P).
    """
    rows, found = prepared.data.split.part(part), {}
    for column, name in enumerate(config.properties):
        flagged = prepared.outliers.flagged_for(name)[rows]
        metrics = property_metrics(truth[part][:, column], predicted[:, column], truth["train"][:, column], flagged)
        found[name] = metrics.as_dict() if metrics else None
    return found


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
