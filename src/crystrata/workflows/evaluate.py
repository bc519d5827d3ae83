"""After training: the metrics of the best weights on validation and test, and all that a person reads about a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crystrata.compositions.keys import composition_key
from crystrata.datasets.dataset import MaterialDataset
from crystrata.datasets.sampling import Step
from crystrata.datasets.selection import rows_to_predict
from crystrata.datasets.splits import PARTS
from crystrata.errors import UsageError
from crystrata.files import write_bytes, write_json, write_text
from crystrata.hull.conventions import with_derived
from crystrata.networks.ensemble import Ensemble
from crystrata.networks.network import count_parameters
from crystrata.networks.training_record import TrainingRecord
from crystrata.prediction.inference import TaskPredictions, evaluate_rows, evaluation_form, predict_rows
from crystrata.prediction.trained_model import TrainedModel, load_model
from crystrata.reports.figures import history_figure, parity_figure, png_of, task_figure
from crystrata.reports.html import write_report
from crystrata.reports.leaderboard import official_figures, official_predictions
from crystrata.reports.metrics import class_metrics, competition_score, property_metrics
from crystrata.reports.tables import DEMO_CAPTION, write_tables
from crystrata.runs.config import RunConfig
from crystrata.runs.directory import BEST, OFFICIAL, PREDICTIONS, RESULTS, TASK_PREDICTIONS
from crystrata.tasks import KINDS, Task
from crystrata.workflows.calibrate import calibrate_run
from crystrata.workflows.prepare import Prepared, labels_of_tasks, start_overlap

EVALUATED = ("val", "test")
_BATCH = 256


def evaluate_run(
    run: Path, config: RunConfig, prepared: Prepared, history: Sequence[dict[str, Any]], *,
    earlier: TrainingRecord | None = None, hours: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate the best weights of a run; write results, tables, test predictions and report; return the results.

    `earlier` is what the weights that it started from were trained on; `hours` are those of training, if not those of
    the epochs in its history.
    """
    model, dataset, split = load_model(run / BEST, config.device), prepared.dataset, prepared.split
    tasks = {task.name: task for task in dataset.tasks}
    reported = [tasks.get(task.name, task) for task in config.tasks]
    numbers = [task for task in reported if task.is_number]
    labels = labels_of_tasks(numbers, dataset, prepared.hulls)
    truth = {part: {name: column[split.part(part)] for name, column in labels.items()} for part in PARTS}
    values, details, latents, others = {}, {}, {}, {}
    for part in EVALUATED:
        values[part], details[part], latents[part] = predict_part(model, numbers, prepared, split.part(part))
        others[part] = _others(model, reported, dataset, split.part(part))
    metrics: dict[str, dict[str, Any]] = {}
    for task in reported:
        metrics[task.name] = _about(task)
        for part in EVALUATED:
            found = others[part].get(task.name)
            metrics[task.name][part] = task_metrics(task, model, prepared, part, truth, values[part], found)
    official = official_predictions(split, dataset.materials, numbers, values["test"], details["test"])
    skills = [parts["test"]["skill"] for parts in metrics.values() if "skill" in (parts["test"] or {})]
    hours = sum(epoch["seconds"] for epoch in history) / 3600 if hours is None else hours
    demo, overlap = prepared.facts["source"]["demo"], start_overlap(prepared, earlier)
    results = {
        "demo": demo,
        "tasks": metrics,
        **(competition_score(skills, hours) if skills else {"score": None, "balanced_score": None}),
        "hours": hours,
        "best_epoch": model.facts["best_epoch"],
        "val_score": model.facts["val_score"],
        "parameters": count_parameters(model.network),
        "official_tests": official_figures(official, numbers, dataset.materials, split.train),
        "intervals": calibrate_run(run, model, prepared, numbers, truth, values, latents),
        "split": {"protocol": split.protocol, "seed": split.seed, **{part: len(split.part(part)) for part in PARTS}},
        **({} if overlap is None else {"start": overlap}),
    }
    write_json(run / RESULTS, results)
    write_tables(run, results)
    write_text(run / OFFICIAL, official.to_csv(index=False, float_format="%.9g"))
    comment, ids = f"# {DEMO_CAPTION}\n" if demo else "", [dataset.ids[row] for row in split.test]
    predictions = pd.DataFrame({"id": ids, **number_columns(numbers, truth["test"], values["test"])})
    write_text(run / PREDICTIONS, comment + predictions.to_csv(index=False, float_format="%.6g"))
    write_long_tables(run / TASK_PREDICTIONS, long_tables(model, config, prepared))
    _write_report(run, config, results, history, numbers, truth["test"], values["test"], others["test"], dataset)
    return results


def _about(task: Task) -> dict[str, Any]:
    """Return what tables say of a task beside its metrics."""
    about = {"kind": task.kind, "unit": task.unit, "title": task.words}
    return about | ({"benchmark": task.benchmark} if task.benchmark else {})


def predict_part(
    model: TrainedModel, tasks: Sequence[Task], prepared: Prepared, rows: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Return predictions of tasks of one number for some rows, derived ones included, further columns and latents."""
    found = evaluate_rows(model.network, prepared.dataset, rows)
    levels = {name: hull.levels[rows] for name, hull in prepared.hulls.items()}
    return with_derived(tasks, found.values, levels), found.details, found.latents


def _others(
    model: TrainedModel, tasks: Sequence[Task], dataset: MaterialDataset, rows: np.ndarray
) -> dict[str, TaskPredictions]:
    """Return predictions in long form of the tasks that are not one number."""
    wanted = [task.name for task in tasks if not task.is_number and task.name in dataset.labels]
    if not wanted or not len(rows):
        return {}
    found = predict_rows(model.network, dataset, rows)
    return {name: found[name] for name in wanted if name in found}


def task_metrics(
    task: Task, model: TrainedModel, prepared: Prepared, part: str, truth: Mapping[str, Mapping[str, np.ndarray]],
    values: Mapping[str, np.ndarray], predictions: TaskPredictions | None,
) -> dict[str, Any] | None:  # fmt: skip
    """Return the metrics of a task on a part, None where it has no label there.

    `truth` has the labels of tasks of one number, by part, of this part and of the training part, `values` their
    predictions on this part; `predictions` are those of another task in long form, None for an autoencoder.
    """
    rows = prepared.split.part(part)
    if not len(rows):
        return None
    if task.is_number:
        flagged = prepared.outliers.flagged_for(task.name)[rows]
        train = truth["train"][task.name]
        metrics = property_metrics(truth[part][task.name], values[task.name], train, flagged)
        return None if metrics is None else metrics.as_dict()
    if predictions is not None:
        return labelled_metrics(task, prepared.dataset, predictions)
    return _reconstruction(task, model, prepared.dataset, rows)


def labelled_metrics(task: Task, dataset: MaterialDataset, predictions: TaskPredictions) -> dict[str, Any] | None:
    """Return the metrics of a task from predictions in long form, None where no label is known."""
    labels = dataset.training_targets([task.name])[task.name]
    train = labels.values[labels.known].numpy()
    if KINDS[task.kind].metric == "accuracy":
        return class_metrics(predictions.true, predictions.predicted, train)
    metrics = property_metrics(predictions.true, predictions.predicted, train)
    return None if metrics is None else metrics.as_dict()


@torch.inference_mode()
def _reconstruction(
    task: Task, model: TrainedModel, dataset: MaterialDataset, rows: np.ndarray
) -> dict[str, Any] | None:
    """Return how well descriptors are rebuilt: the mean squared error in units of the training variance."""
    network = model.network
    if isinstance(network, Ensemble):
        return None
    head, errors = network.head(task.name), []
    for batch in dataset.batches(Step(rows, _BATCH), evaluation_form(network)):
        batch = batch.to(network.device)
        latent = network.encode(batch)
        errors.append(head.errors(head(latent), latent, network.targets_of(task, batch)).cpu())
    return {"n": len(rows), "mse": float(torch.cat(errors).mean())}


def as_table(predictions: TaskPredictions, dataset: MaterialDataset) -> pd.DataFrame:
    """Return predictions as a table: key, the composition as the user's tables write it, t or component, true, pred.

    The rows are in the order of those tables, so that they stand beside the user's own.
    """
    keys, written = np.array(dataset.ids, dtype=object)[predictions.row], dataset.materials.written
    table = pd.DataFrame({"key": keys})
    if written:
        table["composition"] = [written[key] for key in keys]
    for name in ("t", "component"):
        if (values := getattr(predictions, name)) is not None:
            table[name] = values
    table = table.assign(true=predictions.true, pred=predictions.predicted)
    place = {key: number for number, key in enumerate(written)}
    return table.sort_values("key", key=lambda column: column.map(place), kind="stable", ignore_index=True)


def long_tables(model: TrainedModel, config: RunConfig, prepared: Prepared) -> dict[str, pd.DataFrame]:
    """Return the predictions of each task with labels, for the materials that the tasks ask for."""
    dataset = prepared.dataset
    rows = rows_to_predict(config.trained, dataset.materials, prepared.split, composition_key)
    if not len(rows):
        return {}
    return {name: as_table(found, dataset) for name, found in predict_rows(model.network, dataset, rows).items()}


def write_long_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write one parquet table a task, atomically; a task whose name cannot be that of a file is refused."""
    for name, table in tables.items():
        if Path(name).name != name:
            raise UsageError(f"task {name!r} cannot name a file: leave out slashes")
        write_table(folder / f"{name}.parquet", table)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as parquet, atomically; the folder is made if need be."""
    content = BytesIO()
    table.to_parquet(content, index=False)
    write_bytes(path, content.getvalue())


def number_columns(
    tasks: Sequence[Task], truth: Mapping[str, np.ndarray], predicted: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the columns of a table: for each task of one number the label and the prediction."""
    columns: dict[str, np.ndarray] = {}
    for task in tasks:
        columns |= {f"label {task.column}": truth[task.name], f"predicted {task.column}": predicted[task.name]}
    return columns


def _write_report(
    run: Path, config: RunConfig, results: dict[str, Any], history: Sequence[dict[str, Any]], tasks: Sequence[Task],
    truth: Mapping[str, np.ndarray], predicted: Mapping[str, np.ndarray], others: Mapping[str, TaskPredictions],
    dataset: MaterialDataset,
) -> None:  # fmt: skip
    kind = "properties" if all(task.benchmark or task.derived_from for task in config.tasks) else "tasks"
    title = f"{config.title}, {len(config.tasks)} {kind}"
    facts = {
        "run": run.name,
        "encoder": config.encoder,
        "parameters": results["parameters"],
        "materials (training, validation, test)": ", ".join(str(results["split"][part]) for part in PARTS),
        "split": f"{results['split']['protocol']}, seed {results['split']['seed']}",
        "epochs, best epoch": f"{len(history)}, {results['best_epoch']}",
        "training hours": f"{results['hours']:.3f}",
        "score (100 x mean skill)": "-" if results["score"] is None else f"{results['score']:.1f}",
    }
    if start := results.get("start"):
        facts["tested materials that the start was trained on"] = (
            f"{start['tested_and_trained_on']} of {start['tested']}; of the same formula "
            f"{start['tested_of_a_formula_trained_on']}"
        )
    figures = []
    if tasks:
        parity = parity_figure(tasks, truth, predicted, f"test part, {title}")
        figures.append(("Predicted against true values, test part", png_of(parity)))
    named = {task.name: task for task in dataset.tasks}
    for name, found in others.items():
        if len(table := as_table(found, dataset).dropna(subset=["true"])):
            figures.append((f"{name}, test part", png_of(task_figure(name, table, named[name].classes))))
    figures.append(("Learning curves", png_of(history_figure(history))))
    write_report(run, title, results, facts, figures)
