"""The card of a model of compositions: what it tells of a formula, what it was trained on, how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from crystrata.datasets.tasks.universe import RARE_FIRST
from crystrata.reports.tables import markdown

_SHOWN = {"mae": "MAE", "r2": "R2", "accuracy": "accuracy", "macro_f1": "macro F1", "mse": "MSE (standardised)"}
_PROTOCOLS = {RARE_FIRST: "by reduced formula"}  # others say it themselves
_DESIGNED = "kernel_mean"  # the descriptor that inverse design turns back into a recipe


def composition_card(description: Mapping[str, Any], results: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Return the card of a model of compositions as markdown.

    Args:
        description: Content of the JSON file of its folder.
        results: Content of `results.json` of its run.
        manifest: Content of `run_manifest.json` of its run.
    """
    facts, name, split = description["facts"], description["name"], results["split"]
    data = {
        "descriptor": facts["descriptor"]["kind"],
        "digest of the labels": facts["labels_digest"],
        "training, validation, test": f"{split['train']:,}, {split['val']:,}, {split['test']:,} compositions",
        "split": f"{_PROTOCOLS.get(split['protocol'], split['protocol'])}, seed {split['seed']}",
        f"{len(facts['elements'])} elements in training": " ".join(facts["elements"]),
    }
    compute = {
        "encoder": f"{description['network']['encoder']} {description['network']['settings']}",
        "parameters": f"{results['parameters']:,}",
        "best epoch": facts["best_epoch"],
        "hours of training": results["hours"],
        "device": manifest.get("device", "not recorded"),
        "versions": ", ".join(f"{package} {manifest['versions'][package]}" for package in ("crystrata", "torch")),
        "run": f"{description['run']['name']}, started {description['run']['started']}",
    }
    return f"""# {name}

## Predicts, from {"a formula" if _reads_formulas(description) else "a formula and its crystal"}

{markdown(_tasks(results))}
## Data and split

{_table(data)}
## Network and compute

{_table(compute)}
## Limits

{_limits(description)}
## How to use

{_use(description)}
"""


def _reads_formulas(description: Mapping[str, Any]) -> bool:
    """Return whether it reads formulas alone."""
    return description["network"].get("graph_encoder") is None


def _designs(description: Mapping[str, Any]) -> bool:
    """Return whether `crystrata design` takes it."""
    return bool(description["facts"]["descriptor"]["kind"] == _DESIGNED)


def _limits(description: Mapping[str, Any]) -> str:
    """Return what holds for any table of labels, one line each."""
    distance = "; `crystrata design` tells the distance" if _designs(description) else ""
    lines = [
        "It is no better than the labels that it was trained on.",
        f"Expect larger errors on elements and chemistry unlike the training compositions{distance}.",
    ]
    if _reads_formulas(description):
        lines.insert(0, "It reads a formula and no structure: all polymorphs get one answer.")
    return "".join(f"- {line}\n" for line in lines)


def _use(description: Mapping[str, Any]) -> str:
    """Return the command that takes it; other than design, it needs the run that the folder was made from."""
    if _designs(description):
        return f'    crystrata design --run {description["name"]} --want "TASK=VALUE"'
    return f"    crystrata-trainer predict --config FILE --ckpt_path {description['run']['name']}  # its run directory"


def _tasks(results: Mapping[str, Any]) -> pd.DataFrame:
    rows = []
    for name, figures in results["tasks"].items():
        row: dict[str, Any] = {"task": name, "kind": figures["kind"]}
        test = figures["test"] or {}
        row |= {"labels in test": test.get("n", 0)}
        row |= {title: f"{test[key]:.4g}" for key, title in _SHOWN.items() if key in test}
        if interval := figures.get("intervals", {}).get("90"):
            row["half width of 90 %"] = f"{interval['half_width']:.4g}"
            if interval["coverage"] is not None:  # without labels in test there is none
                row["its coverage"] = f"{interval['coverage']:.3f}"
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def _table(rows: Mapping[str, Any]) -> str:
    return markdown(pd.DataFrame({"": list(rows), "value": pd.Series(rows.values(), dtype=object)}))
