"""The page and the picture of reality.py, from the compared values alone. n crystals, P properties."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crystrata.jarvis_properties import get_property
from crystrata.reports.tables import markdown
from reality_offsets import Comparison, explained, offset_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHORT = {"band_gap": "gap", "band_gap_mbj": "gap MBJ", "bulk_modulus": "K", "dielectric": "eps"}
_LOGARITHMIC = ("dielectric",)
_MODEL, _DFT = "#1f5fa8", "#c65a11"


def crystal_table(result: Comparison) -> pd.DataFrame:
    """Return one row per crystal: experiment, prediction and DFT label of each property."""
    columns: dict[str, object] = {
        "crystal": result.table["name"] + ", " + result.table["formula"],
        "type": result.table["prototype"],
        "JARVIS": result.labels.ids,
        "training": result.labels.parts,
    }
    for name in result.measured:
        short = _SHORT[name]
        if name != "band_gap_mbj":
            columns[f"{short} exp"] = [_number(value) for value in result.measured[name]]
        columns[f"{short} model"] = [_number(value) for value in result.predicted[name]]
        columns[f"{short} DFT"] = [_number(value) for value in result.labels.values[name]]
    return pd.DataFrame(columns)


def _number(value: float) -> str:
    return "-" if not np.isfinite(value) else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def parts_table(result: Comparison) -> pd.DataFrame:
    """Return the MAE of the model against the DFT labels, for trained, validation and left-out crystals apart."""
    rows = []
    for name in result.measured:
        error = (result.predicted[name] - result.labels.values[name]).abs().to_numpy(float)
        compared = np.isfinite(error) & ~(result.metal if name == "dielectric" else np.zeros(len(error), dtype=bool))
        row: dict[str, object] = {"property": get_property(name).column}
        for part in ("trained", "validation", "left out"):
            errors = error[compared & (np.array(result.labels.parts) == part)]
            row[part] = f"{errors.mean():.3g} ({len(errors)})" if len(errors) else "-"
        rows.append(row)
    return pd.DataFrame(rows)


def page(result: Comparison, model: str, split: str, picture: str) -> str:
    """Return the page.

    Args:
        result: What is compared.
        model: Name of the model.
        split: First digits of the digest of its split.
        picture: File name of the picture, beside the page.
    """
    count = {column: int(result.table[column].notna().sum()) for column in ("gap", "bulk_modulus", "dielectric")}
    labels = result.labels
    found = sum(id != "-" for id in labels.ids)
    return f"""# Reality check: textbook crystals

Made by `CRYSTRATA_JARVIS=FILE python benchmarks/reality.py` with the model `{model}` (split {split or "not known"}).
{len(result.table)} crystals with {count["gap"]} measured gaps (0 in {int(result.metal.sum())} metals),
{count["bulk_modulus"]} bulk moduli and {count["dielectric"]} high-frequency dielectric constants; values and sources:
[crystals.csv](../reality/crystals.csv), [sources.md](../reality/sources.md). The model sees nothing but the structure,
at the measured lattice constants. It was trained on DFT, not on experiments, and inherits the offsets of DFT.
The measured values stand for the named sources to some percent; what that means is said beside them.

{_origin(found, labels.protocol)}

![Predictions and DFT labels over measured values]({picture})

## Offsets

Signed offsets, crystals with a measured value only; gaps without the metals, and against DFT without labels of zero.

{markdown(offset_table(result))}
{explained(result)}## Model against DFT

MAE (number of crystals) over all crystals of the table with a label, of dielectric constants without the metals.

{markdown(parts_table(result))}
## Crystals

gap: OptB88vdW; K: bulk modulus (Voigt) [GPa]; eps: mean electronic dielectric constant; gaps in eV;
exp: measured, at the temperature in crystals.csv.

{markdown(crystal_table(result))}"""


def _origin(found: int, protocol: str) -> str:
    if not found:
        return "No DFT labels: name a JARVIS file to have them."
    split = f"the model's split `{protocol}`" if protocol else "a split that is not known here"
    return (
        f"{found} crystals have a DFT twin in the JARVIS file: same formula and space group, volume within 10 %.\n"
        f"`trained` means that any twin was in the training part of {split},\n`left out` that none was."
    )


def figure(result: Comparison) -> Figure:
    """Return one panel per property: predictions and DFT labels over measured values."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(8.4, 8.4), layout="constrained")
    panels = drawn.subplots(2, 2).ravel()
    for panel, name in zip(panels, result.measured, strict=False):
        _panel(panel, result, name)
    for panel in panels[len(result.measured.columns) :]:
        panel.axis("off")
    drawn.suptitle("Textbook crystals: predicted and computed over measured", fontsize=11)
    return drawn


def _panel(panel: Axes, result: Comparison, name: str) -> None:
    record = get_property(name)
    top = 1.0
    for values, colour, marker, title in (
        (result.labels.values, _DFT, "x", "DFT label"),
        (result.predicted, _MODEL, "o", "model"),
    ):
        measured, other = result.pair(values, name)
        if not len(measured):
            continue
        panel.plot(measured, other, marker, color=colour, markersize=4.5, alpha=0.75, fillstyle="none", label=title)
        top = max(top, 1.08 * measured.max(), 1.08 * other.max())
    low = 1.0 if name in _LOGARITHMIC else -0.03 * top  # markers at zero stay whole
    if name in _LOGARITHMIC:
        panel.set_xscale("log")
        panel.set_yscale("log")
    panel.plot([low, top], [low, top], color="0.4", linewidth=0.8)
    panel.set_xlim(low, top)
    panel.set_ylim(low, top)
    unit = f" [{record.unit}]" if record.unit else ""
    panel.set_title(record.title, fontsize=9)
    panel.set_xlabel(f"measured{unit}", fontsize=8)
    panel.set_ylabel(f"predicted or computed{unit}", fontsize=8)
    panel.tick_params(labelsize=7)
    panel.legend(fontsize=7, frameon=False, loc="upper left")
