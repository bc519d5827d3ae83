"""What is compared in reality.py, the offsets, and what is known about their causes. n crystals, P properties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crystrata.jarvis_properties import get_property
from reality_labels import DFTLabels


@dataclass(frozen=True)
class Comparison:
    """What was measured, predicted and computed of the textbook crystals.

    Attributes:
        table: The crystals, as `reality_crystals.read_table` gives them, (n, ...).
        measured: Measured values, a column per property, NaN where there is none, (n, P).
        predicted: Predictions, (n, P).
        labels: DFT labels and the part of the split.
    """

    table: pd.DataFrame
    measured: pd.DataFrame
    predicted: pd.DataFrame
    labels: DFTLabels

    @property
    def metal(self) -> np.ndarray:
        """Whether a crystal is a metal, (n,): it has no dielectric constant, and its gap is no scale."""
        return (self.table["gap"] == 0).to_numpy()

    def pair(self, values: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the measured values of a property and others of the same crystals; of gaps, without the metals."""
        measured, other = self.measured[name].to_numpy(float), values[name].to_numpy(float)
        known = np.isfinite(measured) & np.isfinite(other)
        if name.startswith("band_gap"):
            known &= ~self.metal
        return measured[known], other[known]


def offsets(measured: np.ndarray, other: np.ndarray) -> dict[str, float | int]:
    """Return number, mean signed offset (other minus measured), median relative offset [%] and MAE."""
    difference = other - measured
    return {
        "n": len(measured),
        "mean offset": float(difference.mean()),
        "median offset [%]": float(np.median(100 * difference / measured)),
        "MAE": float(np.abs(difference).mean()),
    }


def offset_table(result: Comparison) -> pd.DataFrame:
    """Return the offsets of model and DFT from experiment, and of the model from DFT, property by property."""
    rows = []
    for name in result.measured:
        pairs = {
            "model - experiment": result.pair(result.predicted, name),
            "DFT - experiment": result.pair(result.labels.values, name),
            "model - DFT": _against_dft(result, name),
        }
        title = get_property(name).column
        rows += [{"property": title, "offset": key, **offsets(*pair)} for key, pair in pairs.items() if len(pair[0])]
    return pd.DataFrame(rows)


def _against_dft(result: Comparison, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return label and prediction where both have a measured value beside them and the label is no zero."""
    label, value = result.labels.values[name].to_numpy(float), result.predicted[name].to_numpy(float)
    known = np.isfinite(result.measured[name].to_numpy(float)) & np.isfinite(label) & (label != 0)
    return label[known], value[known]


def explained(result: Comparison) -> str:
    """Return a paragraph per property on the offset of DFT from experiment, with its figures from the table alone."""
    if result.labels.values.isna().all(axis=None):
        return ""
    paragraphs = {
        "band_gap": _gap_words,
        "band_gap_mbj": _mbj_words,
        "bulk_modulus": _modulus_words,
        "dielectric": _dielectric_words,
    }
    return "".join(f"{words(result)}\n\n" for name, words in paragraphs.items() if name in result.measured)


def _relative(result: Comparison, name: str) -> pd.Series:
    """Return the relative offset of the DFT labels [%] by crystal name, where both values are known."""
    off = 100 * (result.labels.values[name] / result.measured[name] - 1)
    if name.startswith("band_gap"):
        off = off.mask(result.metal)
    return off.set_axis(result.table["name"]).dropna()


def _count(which: pd.Series) -> int:
    return int(which.sum())


def _listed(off: pd.Series) -> str:
    ordered = off.reindex(off.abs().sort_values(ascending=False).index)
    return ", ".join(f"{name} ({value:+.0f} %)" for name, value in ordered.items()) or "none"


def _gap_words(result: Comparison) -> str:
    off = _relative(result, "band_gap")
    return (
        "**Gaps, OptB88vdW, are too small.** A semilocal functional lacks the jump of the potential when an electron\n"
        f"is added. Here {_count(off < 0)} of {len(off)} gaps are below experiment, {_count(off.between(-50, -30))} by "
        f"30 to 50 %, {_count(off < -50)} by more;\n{_count(off == -100)} semiconductors have no gap at all. The "
        f"median offset is {off.median():+.0f} %.\nAbove experiment: {_listed(off[off > 0])}."
    )


def _mbj_words(result: Comparison) -> str:
    off = _relative(result, "band_gap_mbj")
    return (
        "**MBJ gaps are close, with exceptions.** The modified Becke-Johnson potential is made to give gaps. Here the\n"
        f"median offset is {off.median():+.0f} %, and {_count(off.abs() <= 15)} of {len(off)} gaps lie within 15 %.\n"
        f"Beyond 25 %: {_listed(off[off.abs() > 25])}.\nGaps without spin-orbit coupling are too large where it is "
        "strong, as in lead salts; gaps next to d states (CuCl, ZnO, TiO2) stay too small."
    )


def _modulus_words(result: Comparison) -> str:
    off = _relative(result, "bulk_modulus")
    return (
        "**Bulk moduli are right to some percent.** They follow the lattice constant of the functional, and the\n"
        f"calculation is at rest where most measurements are at room temperature. Here {_count(off.abs() <= 5)} of "
        f"{len(off)} lie within 5 %,\n{_count(off.abs() <= 10)} within 10 %; the median offset is "
        f"{off.median():+.1f} %, its median size {off.abs().median():.1f} %.\n"
        f"Beyond 20 %: {_listed(off[off.abs() > 20])}."
    )


def _dielectric_words(result: Comparison) -> str:
    off = _relative(result, "dielectric")
    gaps = _relative(result, "band_gap").reindex(off.index)
    small, others = off[gaps < -50], off[gaps >= -50]
    label = result.labels.values["dielectric"][result.metal].dropna()
    model = result.predicted["dielectric"][result.metal]
    return (
        "**Electronic dielectric constants are too large where the gap is too small.** They grow with the inverse\n"
        f"square of the gaps over which electrons are polarised. Here the median offset is {off.median():+.0f} %;\n"
        f"{small.median():+.0f} % in the {len(small)} crystals whose OptB88vdW gap is less than half the measured one, "
        f"{others.median():+.0f} % in the other {len(others)} with a measured gap.\nA metal has no dielectric "
        f"constant: the labels of the metals of this table run from {label.min():.0f} to {label.max():.0f}, "
        f"the predictions\nfrom {model.min():.0f} to {model.max():.0f}, and neither means anything."
    )
