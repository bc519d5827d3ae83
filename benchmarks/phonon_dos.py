"""Phonon densities of states: how far a predicted one is from the computed one, neighbours to beat, a picture.

A curve has 66 bins, its largest value is 1. n curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.batch import BatchForm, collate
from crystrata.networks.nearest import nearest
from crystrata.networks.network import Network

GRID = np.linspace(-300, 1000, 66)  # wavenumbers [1/cm], those of unstable modes negative
SPACING = 20.0  # 1/cm
GAS_CONSTANT = 8.314462618  # J/(mol K)
KELVIN = 1.438776877  # of one wavenumber: h c / k_B [cm K]
_LEAST = 1e-9  # sum of a curve that has no states
_BLOCK = 256  # crystals encoded at once


def heat_capacity(curves: np.ndarray, temperature: float = 300.0) -> np.ndarray:
    """Return the heat capacity per mole of atoms at constant volume [J/(mol K)], (n,), of curves (n, 66).

    C_V = 3 R sum_k g_k x_k^2 exp(x_k) / (exp(x_k) - 1)^2 with x = h c w / (k_B T), where the g_k of positive
    wavenumbers w_k add up to 1; 0 where there is no positive wavenumber.
    """
    stable = GRID > 0
    states = curves[:, stable].clip(min=0.0)
    x = KELVIN * GRID[stable] / temperature
    each = (x / np.expm1(x)) ** 2 * np.exp(x)
    return 3 * GAS_CONSTANT * (states @ each) / states.sum(axis=1).clip(min=_LEAST)


def wasserstein(curves: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the Wasserstein distance of the normalised spectra [1/cm], (n,): the area between their running sums."""
    shares = [part.clip(min=0.0) / part.clip(min=0.0).sum(axis=1, keepdims=True).clip(min=_LEAST)
              for part in (curves, others)]  # fmt: skip
    return SPACING * np.abs(np.cumsum(shares[0] - shares[1], axis=1)).sum(axis=1)


def figures(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Return mean errors of curves (n, 66): per bin, Wasserstein distance [1/cm], heat capacity [J/(mol K)].

    Crystals without a stable mode have no heat capacity and do not count in the last one.
    """
    stable = true[:, GRID > 0].sum(axis=1) > 0
    heat = np.abs(heat_capacity(predicted) - heat_capacity(true))[stable]
    return {
        "mae": float(np.abs(predicted - true).mean()),
        "wasserstein": float(wasserstein(predicted, true).mean()),
        "heat_capacity": float(heat.mean()),
    }


def mean_of_nearest(asked: np.ndarray, known: np.ndarray, curves: np.ndarray, k: int) -> np.ndarray:
    """Return the mean curve of the k nearest known rows, (n, 66).

    Args:
        asked: Descriptors, (n, D).
        known: Descriptors, (m, D).
        curves: Of the known rows, (m, 66).
        k: Neighbours.
    """
    return curves[nearest(asked, known, k)[0]].mean(axis=1)


def encoded(network: Network, graphs: GraphArrays, rows: np.ndarray) -> np.ndarray:
    """Return the latents of some crystals, (n, d), each number in units of its spread over them."""
    form = network.training_form or BatchForm()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), _BLOCK):
            batch = collate(graphs, rows[start : start + _BLOCK], angles=form.angles, distinct=form.distinct)
            parts.append(network.encode_crystals(batch).pooled.numpy())
    latents = np.concatenate(parts)
    return latents / latents.std(axis=0).clip(min=_LEAST)


def curves_of(table: pd.DataFrame, ids: list[str]) -> np.ndarray:
    """Return the predictions of a run, a table by key and t, as curves (n, 66) in the order of the ids."""
    by_key = table.pivot(index="key", columns="t", values="pred")
    return by_key.loc[ids].to_numpy(dtype=np.float64)


def save_picture(spectra: Mapping[str, np.ndarray], titles: list[str], path: Path) -> None:
    """Draw some spectra, a panel a crystal: the first filled, the others as lines.

    Args:
        spectra: What it is -> curves (n, 66).
        titles: Of the n panels.
        path: Where to.
    """
    from matplotlib.figure import Figure

    colours = ("0.8", "tab:blue", "tab:red", "tab:green")
    columns = 4
    figure = Figure(figsize=(12, 2.6 * -(-len(titles) // columns)), layout="constrained")
    panels = figure.subplots(-(-len(titles) // columns), columns, sharey=True).ravel()
    for row, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        for (name, curves), colour in zip(spectra.items(), colours, strict=True):
            if colour == "0.8":
                panel.fill_between(GRID, curves[row], color=colour, label=name)
            else:
                panel.plot(GRID, curves[row], color=colour, linewidth=1.2, label=name)
        panel.set_title(title, fontsize=9)
        panel.set_xlim(GRID[0], GRID[-1])
    for panel in panels[-columns:]:
        panel.set_xlabel("wavenumber [1/cm]", fontsize=9)
    panels[0].legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=110)
