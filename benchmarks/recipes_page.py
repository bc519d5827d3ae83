"""The page of the recipe log: the trials of each split, the best score first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from crystrata.jarvis_properties import get_property
from crystrata.reports.tables import markdown

_HEAD = """# Recipes: the settings of training, tried on a subset

Made by `python benchmarks/recipes.py`, one trial at a time; all of them are in `recipes.json`. One e3nn network of size
std for the nine properties. Score: mean over the properties of MAE / MAD on validation, after the best epoch. Trials
are compared on validation alone; no test figure enters. A trial of fewer epochs than its schedule has was stopped by
hand, and could only have become better. Clock: time of the epochs, with other work beside it; CPU: of the process,
where it was taken. Settings: those that are not the same in all trials of the table.

"""

_FINDINGS = """## What they say

Weight decay. With 1e-5, which is next to none, validation stands still from epoch 14 of 24 (0.3154), the sparse
properties having turned long before: the piezoelectric error is lowest at epoch 5. With 0.05 the score is best at epoch
16 (0.3074) and then rises to 0.3129 at the end: the formation energy goes on improving (0.0956 to 0.0905 eV/atom),
while spillage (0.347 to 0.367) and piezoelectric coefficient (5.05 to 5.36 pC/N) lose and their training losses go on
falling. With 0.2 it is slower (0.3507 against 0.3394 after six epochs), does not turn, and is as good by the end of the
schedule (0.3083). So decay is needed, against overfitting of the properties with few labels, and the more of it the
longer the schedule. The trial with 0.1 and dropout is the best so far, and was still falling; its schedule is shorter
as well, so what of this does it is not known. Each trial is of one seed and the spread between seeds was not measured:
differences of a few thousandths may be chance. The transform of the dielectric loss is such a case (at epoch 13, 0.3097
with the identity, 0.3093 with asinh).

Optimizer. The trials that name relative lengths and element properties are of the encoder before it knew them; those
after it compare the rules of the steps at weight decay 0.05 and 24 epochs, one seed each. AdamW is best at 0.2885 (691
CPU s), SOAP at 0.2837 to 0.2906 (613 to 890 CPU s) by rate and batch, and turns upwards half-way. Muon with a rate of
0.01 and batches of 32 comes to 0.2749 (846 CPU s) without turning, and is better than AdamW for seven of the eight
properties (formation energy 0.0672 against 0.0780 eV/atom, spillage worse); with 0.02 it has 0.2930, in batches of 64
0.2803.
"""


def page(trials: Sequence[dict[str, Any]]) -> str:
    """Return the page of the trials on record."""
    splits: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for trial in trials:
        splits.setdefault((trial["split"], trial["crystals"]), []).append(trial)
    return "\n".join([_HEAD + _FINDINGS, *(_section(*key, group) for key, group in splits.items())])


def _section(split: str, crystals: int, trials: Sequence[dict[str, Any]]) -> str:
    ordered = sorted(trials, key=lambda trial: min(trial["val_score"]))
    varied = _varied(ordered)
    best = markdown(pd.DataFrame(_row(trial, varied) for trial in ordered).dropna(axis="columns", how="all"))
    moments = {"best": "after the best epoch", "final": "after the last epoch"}
    tables = "".join(
        f"\nValidation MAE {words}, in the same order:\n\n"
        + markdown(pd.DataFrame({"settings": _words(trial, varied), **_errors(trial, key)} for trial in ordered))
        for key, words in moments.items()
    )
    return f"## {crystals:,} training crystals, split {split}\n\n{best}{tables}"


def _varied(trials: Sequence[dict[str, Any]]) -> list[str]:
    """Return the settings that are not the same in all trials; epochs have a column of their own."""
    names = dict.fromkeys(name for trial in trials for name in trial["settings"])
    return [
        name for name in names if name != "epochs" and len({str(trial["settings"].get(name)) for trial in trials}) > 1
    ]


def _words(trial: dict[str, Any], names: Sequence[str]) -> str:
    settings = trial["settings"]
    return ", ".join(f"{name} {settings[name]}" for name in names if name in settings) or "-"


def _row(trial: dict[str, Any], varied: Sequence[str]) -> dict[str, Any]:
    return {
        "score": min(trial["val_score"]),
        "best epoch": trial["best"]["epoch"],
        "last score": trial["val_score"][-1],
        "epochs": f"{trial['epochs']} of {trial['settings']['epochs']}",
        "settings": _words(trial, varied),
        "seed": trial["seed"],
        "CPU seconds": trial["cpu_seconds"],
        "clock seconds": trial["seconds"],
    }


def _errors(trial: dict[str, Any], moment: str) -> dict[str, float]:
    return {get_property(name).column: mae for name, mae in trial[moment]["val_mae"].items()}
