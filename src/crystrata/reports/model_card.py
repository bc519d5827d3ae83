"""The model card: what a shared model is, what it was trained on, how good it is, what it cannot do, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from crystrata.reports.tables import (
    INTERVAL_CAPTION,
    OFFICIAL_CAPTION,
    captions,
    interval_table,
    mae_table,
    markdown,
    official_table,
)
from crystrata.runs.find import DESCRIPTION, WEIGHTS

_SHOWN = {"mae": "MAE", "r2": "R2", "accuracy": "accuracy", "macro_f1": "macro F1", "mse": "MSE (standardised)"}
_DESIGNED = "kernel_mean"  # the descriptor that inverse design turns back into a composition
_FORMULA_LIMITS = """\
- It is no better than the labels that it was trained on.
- Expect larger errors on elements and chemistry unlike the training compositions.
"""
_FORMULA_ALONE = "- It reads a formula and no structure: all polymorphs get one answer.\n"
_LIMITS = """\
- It was trained on computed (DFT) properties of relaxed, ordered bulk crystals and is no better than these
  calculations. Errors on unrelaxed structures, molecules, surfaces and defects are not known.
- The figures above hold for the split above. Errors on chemistry or structures unlike the training crystals are larger;
  a crystal with an element never seen in training gets a warning.
"""
_INTERVAL_LIMIT = """\
- Intervals hold for crystals like those of the validation part, on average over them; nothing is promised for a crystal
  far from the training crystals (column `domain distance` above 1).
"""
_NO_INTERVAL_LIMIT = "- A prediction is a single value without an interval.\n"
_HULL_LIMIT = "- The energy above hull refers to the hull of the training crystals, which lies beside the weights.\n"


@dataclass(frozen=True)
class EvaluatedRun:
    """A run of the same kind, by name, tested where the model itself cannot be: on crystals that it was trained on."""

    name: str
    results: Mapping[str, Any]
    manifest: Mapping[str, Any]


def model_card(
    description: Mapping[str, Any],
    results: Mapping[str, Any],
    manifest: Mapping[str, Any],
    evaluated: EvaluatedRun | None = None,
) -> str:
    """Return the card of a model as markdown.

    `description` is the JSON of its folder, `results` and `manifest` are of its run; `evaluated` is the run whose
    official tests it carries, if not its own.
    """
    facts, name = description["facts"], description["name"]
    networks = description["network"].get("members", [description["network"]])
    crystals, compositions = (any(one.get(key) for one in networks) for key in ("structure", "composition"))
    limits = _LIMITS if crystals and not compositions else _FORMULA_LIMITS + ("" if crystals else _FORMULA_ALONE)
    notice = f"**{description['notice']}**\n\n" if "notice" in description else ""
    limits += _INTERVAL_LIMIT if len(interval_table(results)) else _NO_INTERVAL_LIMIT
    reads = " and ".join(word for word, read in (("a formula", compositions), ("a structure", crystals)) if read)
    parts = {
        f"Predicts, from {reads}": _tasks(results),
        "Data and split": _table(_data(facts, results, manifest)),
        "Errors": _errors(results) if evaluated is None else _errors_of_both(results, evaluated),
        "Network and compute": _table(_compute(description, results, manifest)),
        "Limits": limits + (_HULL_LIMIT if "ehull" in facts["properties"] else ""),
        "How to use": _use(name, facts, crystals=crystals, compositions=compositions),
    }
    return f"# {name}\n\n{notice}" + "\n".join(f"## {title}\n\n{text}" for title, text in parts.items())


def _tasks(results: Mapping[str, Any]) -> str:
    about = results["tasks"].items()
    rows = [
        {"property": name, "meaning": one["title"], "kind": one["kind"], "unit": one["unit"]} for name, one in about
    ]
    return markdown(pd.DataFrame(rows))


def _data(facts: Mapping[str, Any], results: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    split = results["split"]
    return {
        "source": facts["source"]["name"],
        "digest of its crystals": facts["source"]["digest"],
        "split protocol": f"`{split['protocol']}`, seed {split['seed']}",
        "digest of the split": facts["split_digest"],
        "training, validation, test": f"{split['train']:,}, {split['val']:,}, {split['test']:,} materials",
        **{
            key.replace("_", " "): f"{count:,}"
            for key, count in manifest["split"].items()
            if isinstance(count, int) and key != "seed"
        },
        **({"descriptor": facts["descriptor"]["kind"]} if "descriptor" in facts else {}),
        f"{len(facts['elements'])} elements in training": " ".join(facts["elements"]),
    }


def _errors(results: Mapping[str, Any]) -> str:
    """Return the official tests where the run answers any, otherwise the errors on its own test part."""
    official, intervals = official_table(results), interval_table(results)
    if len(official):
        errors = f"{markdown(official)}\n{OFFICIAL_CAPTION}\n"
    else:
        table = mae_table(results)
        errors = markdown(table) + "\n" + "\n\n".join(captions(results)) + "\n" if len(table) else ""
        errors += _other_errors(results, set(table["property"]) if len(table) else set())
    return errors + (f"\n{markdown(intervals)}\n{INTERVAL_CAPTION}\n" if len(intervals) else "")


def _other_errors(results: Mapping[str, Any], shown: set[str]) -> str:
    """Return the metrics on test of tasks that are not compared by an absolute error."""
    rows = []
    for name, parts in results["tasks"].items():
        if name not in shown:
            test = parts["test"] or {}
            metrics = {title: f"{test[key]:.4g}" for key, title in _SHOWN.items() if key in test}
            rows.append({"task": name, "labels in test": test.get("n", 0), **metrics})
    return f"\n{markdown(pd.DataFrame(rows).fillna(''))}" if rows else ""


def _errors_of_both(results: Mapping[str, Any], evaluated: EvaluatedRun) -> str:
    split = evaluated.results["split"]
    return f"""\
This model was trained on nearly all crystals, those of the official tests among them. How good such a model is, the run
`{evaluated.name}` tells, which never saw these tests: it was trained on {split["train"]:,} crystals by the protocol
`{split["protocol"]}`. Its errors:

{markdown(official_table(evaluated.results))}
{OFFICIAL_CAPTION}

Errors of this model itself, on crystals held out of its training:

{_errors(results)}"""


def _compute(description: Mapping[str, Any], results: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    facts, versions = description["facts"], manifest["versions"]
    networks = description["network"].get("members", [description["network"]])
    return {
        **({"several networks": "; ".join(_member(one) for one in manifest["members"])} if len(networks) > 1 else {}),
        "encoder": "; ".join(dict.fromkeys(map(_encoder, networks))),
        "level": f"{facts['algorithm']}, {facts['mode']}",
        "parameters": f"{results['parameters']:,}",
        **({"best epoch": facts["best_epoch"]} if facts["best_epoch"] is not None else {}),
        "hours of training": results["hours"],
        "device": manifest.get("device", "not recorded"),
        "versions": ", ".join(f"{package} {versions[package]}" for package in ("crystrata", "torch", "e3nn")),
        "run": f"{description['run']['name']}, started {description['run']['started']}",
    }


def _encoder(network: Mapping[str, Any]) -> str:
    words = []
    for encoder in ("structure", "composition"):
        if network.get(encoder):
            settings = ", ".join(f"{key} {value}" for key, value in network[f"{encoder}_settings"].items())
            words.append(f"{network[encoder]} ({settings})")
    return " and ".join(words)


def _member(member: Mapping[str, Any]) -> str:
    return f"{member['run']}: {', '.join(member['predicts']) or 'nothing'} ({member['hours']:.3f} h)"


def _table(rows: Mapping[str, Any]) -> str:
    return markdown(pd.DataFrame({"": list(rows), "value": pd.Series(rows.values(), dtype=object)}))


def _use(name: str, facts: Mapping[str, Any], *, crystals: bool, compositions: bool) -> str:
    commands = [f"crystrata predict --model {name} --cif FILE"] if crystals else []
    commands += [f"crystrata predict --model {name} --formula FORMULA"] if compositions else []
    if compositions and not crystals and facts["descriptor"]["kind"] == _DESIGNED:
        commands.append(f'crystrata design --model {name} --objective "TASK=VALUE"')
    lines = "\n".join(f"    {command}" for command in commands)
    asked = '"FILE.cif"' if crystals else '"FORMULA"'
    return f"""\
Put this folder into `models/pretrained/`, or name it by its path:

{lines}

In Python:

    import crystrata as cx

    model = cx.load("{name}")
    table = model.predict({asked})

`{WEIGHTS}` holds tensors alone and `{DESCRIPTION}` plain values; both are compared with their SHA-256, and nothing
in them can run as code.
"""
