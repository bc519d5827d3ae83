"""The page of foundation.py, from its results alone."""

from __future__ import annotations

from typing import Any

import pandas as pd

from crystrata.reports.tables import markdown

PUBLISHED = {
    "formation_energy_peratom": ("eV/atom", 0.223, 0.096, 0.073),
    "optb88vdw_bandgap": ("eV", 0.406, 0.189, 0.187),
    "bulk_modulus_kv": ("GPa", 15.6, 14.1, 12.7),
    "shear_modulus_gv": ("GPa", None, None, None),
}
"""Task -> unit, and MAE of `cfid_chem`, the composition-only entry of the JARVIS leaderboard; of random forests and
XGBoost on matminer descriptors, which see the structure too."""

_NUMBERS = """
## Numbers

MAE on the official tests. The two numbers of a split are learned together, by absolute errors; settings and epochs were
chosen by the validation part. The epochs with the crystal are few: what counts is the gain over the composition alone.
The evaluated model, from whose first encoder some start, was trained without any crystal of these tests.

A formula does not tell its crystals apart. The second table has, for the tested crystals whose formula is in the
training part too, the MAE of telling the median of the formula's training crystals, and that of the median of all its
crystals, the tested one included: hardly any model that reads the formula alone can do better there.
"""
_SAME = """
| label | tested crystals of a formula in training | median of its training crystals | median of all its crystals |
| --- | --- | --- | --- |
"""
_PHONONS = """
## Phonon densities of states

14,243 curves of 66 bins from -300 to 1000 1/cm, the largest value 1, official split (1,424 tested). MAE is that of a
bin. For the Wasserstein distance, spectra are cut at 0 and divided by their sum. The heat capacity at 300 K per mole of
atoms follows from the bins of positive wavenumbers, whose sum is made 1 (3 R at high temperature). Nearest compositions
are those of the smallest distance between kernel mean descriptors, nearest crystals those between latents (each number
over its spread) of the formation energy encoder of the evaluated model, which never saw a phonon. The networks have one
head, a sum of 66 Gaussians that cannot be negative, and learn by squared errors; these two were settled on earlier
trainings whose test figures were seen.
"""
_PICTURE = """
![Computed and predicted densities of states](phonon_dos.png)

Tested crystals at the ranks .02, .15, .3, .45, .6, .75, .9 and .98 of the error of the last network.
"""


def page(about: str, results: dict[str, Any]) -> str:
    """Return the whole page.

    Args:
        about: What was done, title first.
        results: Case -> result, and the results of the baselines.
    """
    title, text = about.split("\n", 1)
    cases = [case for case in results.values() if "reads" in case]
    parts = [f"# {title}\n\n{text.strip()}\n"]
    numbers = [row for case in cases for label, task in case["tasks"].items() if label in PUBLISHED
               for row in [_row(label, case, task)]]  # fmt: skip
    if numbers:
        same = [
            f"| {label} | {found['n']} | {found['mae']:.4g} | {found['best']:.4g} |\n"
            for label, found in results["same formula"].items()
        ]
        parts += [
            _NUMBERS,
            markdown(pd.DataFrame(numbers).sort_values(["label", "MAE"], ascending=[True, False])),
            _SAME,
            *same,
        ]
    if "phonons" in results:
        parts += [_PHONONS, markdown(_spectra(results["phonons"], cases)), _PICTURE]
    return "\n".join(part.strip("\n") + "\n" for part in parts).replace("|\n\n|", "|\n|")


def _row(label: str, case: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    unit, composition, forest, boosted = PUBLISHED[label]
    return {
        "label": f"{label} [{unit}]",
        "reads": case["reads"],
        "tested": task["test"]["n"],
        "validation": task["val"]["mae"],
        "MAE": task["test"]["mae"],
        "MAD": task["test"]["mad"],
        "cfid_chem": composition or "-",
        "random forest": forest or "-",
        "XGBoost": boosted or "-",
        "epochs": case["epochs"],
        "CPU s": round(case["cpu_seconds"]),
    }


def _spectra(found: dict[str, dict[str, float]], cases: list[dict[str, Any]]) -> pd.DataFrame:
    seconds = {f"network: {case['reads']}": round(case["cpu_seconds"]) for case in cases if "ph_dos" in case["tasks"]}
    rows = [
        {
            "told by": name,
            "MAE": one["mae"],
            "Wasserstein [1/cm]": one["wasserstein"],
            "C_V at 300 K [J/(mol K)]": one["heat_capacity"],
            "CPU s": seconds.get(name, "-"),
        }
        for name, one in found.items()
    ]
    return pd.DataFrame(rows)
