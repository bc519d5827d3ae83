"""The model card: what a shared model is, what it was trained on, how good it is, what it cannot do, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from crystrata.properties import records
from crystrata.reports.tables import (
    INTERVAL_CAPTION,
    OFFICIAL_CAPTION,
    captions,
    interval_table,
    mae_table,
    markdown,
    official_table,
)
from crystrata.runs.shipped import DESCRIPTION, WEIGHTS

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
    """A run of the same kind, tested where the model itself cannot be: on crystals that it was trained on.

    Attributes:
        name: Name of its directory.
        results: Content of its `results.json`.
        manifest: Content of its `run_manifest.json`.
    """

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

    Args:
        description: Content of the JSON file of its folder.
        results: Content of `results.json` of its run.
        manifest: Content of `run_manifest.json` of its run.
        evaluated: The run whose official tests it carries, if not its own.
    """
    facts, name = description["facts"], description["name"]
    notice = f"**{description['notice']}**\n\n" if "notice" in description else ""
    limits = _LIMITS + (_INTERVAL_LIMIT if len(interval_table(results)) else _NO_INTERVAL_LIMIT)
    parts = {
        "Predicts": _properties(facts),
        "Data and split": _table(_data(facts, results, manifest)),
        "Errors": _errors(results) if evaluated is None else _errors_of_both(results, evaluated),
        "Network and compute": _table(_compute(description, results, manifest)),
        "Limits": limits + (_HULL_LIMIT if "ehull" in facts["properties"] else ""),
        "How to load": _loading(name),
    }
    return f"# {name}\n\n{notice}" + "\n".join(f"## {title}\n\n{text}" for title, text in parts.items())


def _properties(facts: Mapping[str, Any]) -> str:
    rows = [{"property": one.name, "meaning": one.title, "unit": one.unit} for one in records(facts["properties"])]
    return markdown(pd.DataFrame(rows))


def _data(facts: Mapping[str, Any], results: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    split = results["split"]
    return {
        "source": facts["source"]["name"],
        "digest of its crystals": facts["source"]["digest"],
        "split protocol": f"`{split['protocol']}`, seed {split['seed']}",
        "digest of the split": facts["split_digest"],
        "training, validation, test": f"{split['train']:,}, {split['val']:,}, {split['test']:,} crystals",
        **{key.replace("_", " "): f"{count:,}" for key, count in manifest["split"].items() if isinstance(count, int)},
        f"{len(facts['elements'])} elements in training": " ".join(facts["elements"]),
    }


def _errors(results: Mapping[str, Any]) -> str:
    """Return the official tests where the run answers any, otherwise the errors on its own test part."""
    official, intervals = official_table(results), interval_table(results)
    if len(official):
        errors = f"{markdown(official)}\n{OFFICIAL_CAPTION}\n"
    else:
        errors = markdown(mae_table(results)) + "\n" + "\n\n".join(captions(results)) + "\n"
    return errors + (f"\n{markdown(intervals)}\n{INTERVAL_CAPTION}\n" if len(intervals) else "")


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
    settings = ", ".join(f"{key} {value}" for key, value in network["settings"].items())
    return f"{network['encoder']} ({settings})"


def _member(member: Mapping[str, Any]) -> str:
    return f"{member['run']}: {', '.join(member['answers']) or 'nothing'} ({member['hours']:.3f} h)"


def _table(rows: Mapping[str, Any]) -> str:
    return markdown(pd.DataFrame({"": list(rows), "value": pd.Series(rows.values(), dtype=object)}))


def _loading(name: str) -> str:
    return f"""\
Put this folder into `models/pretrained/`, or name it by its path:

    crystrata predict --cif FILE --run {name}

In Python:

    from pathlib import Path
    from crystrata.prediction.models import load_model
    from crystrata.prediction.predict import predict_files

    model = load_model(Path("models/pretrained/{name}"))
    table = predict_files(model, ["FILE.cif"])

`{WEIGHTS}` holds tensors alone and `{DESCRIPTION}` plain values; both are compared with their SHA-256, and nothing
in them can run as code.
"""
